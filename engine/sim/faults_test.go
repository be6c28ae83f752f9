package sim

import (
	"os"
	"time"

	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/platform/vfs"
)

// faults is what goes wrong in a run, and how often.
type faults struct {
	w     *world
	kinds []func()
	every time.Duration
	// partitions: links are cut in this run, so that a session may end though its client is answered by some box.
	partitions bool
	ended      bool
	counts     map[string]int
}

// start chooses the kinds of this run: some runs know one kind only, others all.
func (f *faults) start(w *world) {
	f.w, f.counts = w, map[string]int{}
	links := []func(){f.cutLink, f.cutLink, f.isolate, f.flap}
	all := [][]func(){{f.kill}, {f.powerCut, f.powerCut, f.blackout}, links, {f.pause}, {f.stop, f.resign}, {f.jump}, {f.loseDisk}, {f.slowDisk}, {f.badDisk}, {f.wires, f.wires}}
	if w.kafka != nil {
		all = append(all, []func(){f.fullDisk}, []func(){f.badLogDirectory}, []func(){f.lay, f.lay})
	}
	r := w.rand()
	for i := range all {
		if r.IntN(2) == 0 {
			f.kinds = append(f.kinds, all[i]...)
			f.partitions = f.partitions || i == 2
		}
	}
	if len(f.kinds) == 0 {
		f.kinds = all[r.IntN(2)]
	}
	f.every = 100*time.Millisecond + time.Duration(r.Int64N(int64(2500*time.Millisecond)))
	if w.cfg.power {
		f.kinds, f.every = []func(){f.lay, f.lay, f.lay, f.kill}, 700*time.Millisecond
	}
	if r.IntN(3) == 0 {
		w.net.loss = r.IntN(30)
	}
	if r.IntN(4) == 0 {
		w.net.delay = time.Duration(1+r.IntN(30)) * time.Millisecond
	}
	f.schedule()
}

func (f *faults) schedule() {
	f.w.sched.After(f.every/2+time.Duration(f.w.rand().Int64N(int64(f.every))), "fault", func() {
		if f.ended {
			return
		}
		f.kinds[f.w.rand().IntN(len(f.kinds))]()
		f.schedule()
	})
}

// calmDown ends all faults: links are open, boxes run, disks work.
func (w *world) calmDown() {
	w.faults.ended = true
	w.net.loss, w.net.delay = 0, 2*time.Millisecond
	clear(w.net.cuts)
	for _, x := range w.wires {
		x.stalled = false
	}
	for _, id := range w.ids {
		b := w.boxes[id]
		b.power = nil
		if b.proc == nil {
			w.restart(b)
			continue
		}
		b.proc.disk.Disarm()
		b.proc.group.Delay = nil
		if b.paused {
			b.paused = false
			b.proc.group.Pause(false)
		}
	}
}

// expirySlack is what the rule about sessions must allow for. A box that is cut off from the leader answers its clients and
// reports to nobody.
func (w *world) expirySlack() time.Duration {
	if w.faults.partitions || w.net.loss > 0 || w.faults.w == nil {
		return w.sessionTimeout
	}
	return 2 * time.Second
}

func (f *faults) count(name string, args ...any) {
	f.counts[name]++
	f.w.trace("fault %s %v", name, args)
}

// someBox is one that runs.
func (f *faults) someBox() *box {
	var up []*box
	for _, id := range f.w.ids {
		if b := f.w.boxes[id]; b.proc != nil {
			up = append(up, b)
		}
	}
	if len(up) == 0 {
		return nil
	}
	r := f.w.rand()
	if r.IntN(3) == 0 { // the leader is the most interesting
		for _, b := range up {
			if b.proc.Ensemble.Status().Role == "leader" {
				return b
			}
		}
	}
	return up[r.IntN(len(up))]
}

func (f *faults) duration(most time.Duration) time.Duration {
	return most/50 + time.Duration(f.w.rand().Int64N(int64(most)))
}

func (f *faults) kill() {
	if b := f.someBox(); b != nil {
		f.count("kill", b.id)
		b.kill()
		f.w.restart(b)
	}
}

// powerCut takes the power of one box. It comes back by itself: watchPower kills it, and then it is down.
func (f *faults) powerCut() {
	if b := f.someBox(); b != nil {
		f.count("power", b.id)
		b.armPowerCut()
		f.awaitPower(b)
	}
}

func (f *faults) awaitPower(b *box) {
	f.w.sched.After(400*time.Millisecond, "power", func() {
		if b.proc == nil {
			f.w.restart(b)
		} else if b.power != nil {
			f.awaitPower(b)
		}
	})
}

// blackout takes the power of all.
func (f *faults) blackout() {
	if f.w.rand().IntN(4) != 0 {
		return
	}
	f.count("blackout")
	for _, id := range f.w.ids {
		b := f.w.boxes[id]
		if b.proc == nil {
			continue
		}
		if b.proc != nil && f.w.rand().IntN(2) == 0 {
			b.armPowerCut()
			f.awaitPower(b)
			continue
		}
		b.crash(powercut.Tail{}, powercut.Damage{}, false)
		f.w.restart(b)
	}
}

func (f *faults) cutLink() {
	r := f.w.rand()
	a, b := f.w.ids[r.IntN(len(f.w.ids))], f.w.ids[r.IntN(len(f.w.ids))]
	if a == b {
		return
	}
	both := r.IntN(2) == 0
	kind := lossy
	if r.IntN(2) == 0 {
		kind = held
	}
	f.count("cut", a, b, both, kind)
	f.w.net.cuts[[2]uint64{a, b}] = kind
	if both {
		f.w.net.cuts[[2]uint64{b, a}] = kind
	}
	f.heal(a, b, f.duration(3*time.Second))
}

// heal opens a link in a while. One that was cut both ways for long has lost its connections, and both ends know it.
func (f *faults) heal(a, b uint64, after time.Duration) {
	f.w.sched.After(after, "heal", func() {
		if f.ended {
			return
		}
		both := f.w.net.state(a, b) == lossy && f.w.net.state(b, a) == lossy
		delete(f.w.net.cuts, [2]uint64{a, b})
		delete(f.w.net.cuts, [2]uint64{b, a})
		f.w.trace("healed %d %d", a, b)
		if both && after > time.Second {
			for _, pair := range [][2]uint64{{a, b}, {b, a}} {
				if p := f.w.boxes[pair[0]].proc; p != nil {
					p.link.gone(pair[1])
				}
			}
		}
	})
}

// isolate cuts one box off from all others.
func (f *faults) isolate() {
	b := f.someBox()
	if b == nil {
		return
	}
	kind := lossy
	if f.w.rand().IntN(2) == 0 {
		kind = held
	}
	f.count("isolate", b.id, kind)
	after := f.duration(3 * time.Second)
	for _, id := range f.w.ids {
		if id == b.id {
			continue
		}
		f.w.net.cuts[[2]uint64{b.id, id}] = kind
		f.w.net.cuts[[2]uint64{id, b.id}] = kind
		f.heal(b.id, id, after)
	}
}

// flap cuts and opens a link again and again.
func (f *faults) flap() {
	r := f.w.rand()
	a, b := f.w.ids[r.IntN(len(f.w.ids))], f.w.ids[r.IntN(len(f.w.ids))]
	if a == b {
		return
	}
	f.count("flap", a, b)
	for n := range 5 {
		f.w.sched.After(time.Duration(n)*200*time.Millisecond, "flap", func() {
			if f.ended {
				return
			}
			f.w.net.cuts[[2]uint64{a, b}] = lossy
			f.w.net.cuts[[2]uint64{b, a}] = lossy
			f.heal(a, b, 100*time.Millisecond)
		})
	}
}

func (f *faults) pause() {
	if b := f.someBox(); b != nil {
		f.count("pause", b.id)
		b.pause(f.duration(2500 * time.Millisecond))
	}
}

// stop is an orderly stop and a start.
func (f *faults) stop() {
	if b := f.someBox(); b != nil {
		f.count("stop", b.id)
		b.stop(func() { f.w.restart(b) })
	}
}

// resign lets another box lead, while this one goes on.
func (f *faults) resign() {
	if b := f.someBox(); b != nil && !b.stopping {
		f.count("resign", b.id)
		b.proc.Ensemble.Resign(func() {})
	}
}

// loseDisk takes a box's directory away while all others are well: once in a run, since nobody promises anything when the
// next disk goes before the ensemble is whole again.
func (f *faults) loseDisk() {
	b := f.someBox()
	if b == nil || f.counts["lost disk"] > 0 {
		return
	}
	for _, id := range f.w.ids {
		if _, serves := f.w.boxes[id].appliedIndex(); !serves {
			return
		}
	}
	kafka := f.w.kafka
	if kafka != nil && !kafka.inSync() {
		return
	}
	f.count("lost disk", b.id)
	b.kill()
	if kafka != nil && f.w.rand().IntN(2) == 0 {
		f.wipe(b)
	} else if err := os.RemoveAll(b.dir); err != nil {
		f.w.failf("%v", err)
	}
	f.w.restart(b)
}

// jump sets a box's wall clock, to any time.
func (f *faults) jump() {
	if b := f.someBox(); b != nil {
		f.count("jump", b.id)
		b.wall.off = time.Duration(f.w.rand().Int64N(int64(100*time.Hour))) - 50*time.Hour
	}
}

// slowDisk makes everything that touches a box's disk slow.
func (f *faults) slowDisk() {
	b := f.someBox()
	if b == nil {
		return
	}
	f.count("slow disk", b.id)
	f.slowDown(b, f.duration(300*time.Millisecond))
}

func (f *faults) slowDown(b *box, most time.Duration) {
	p := b.proc
	p.group.Delay = func(string) time.Duration { return time.Duration(f.w.rand().Int64N(int64(most))) }
	f.w.sched.After(f.duration(3*time.Second), "disk", func() { p.group.Delay = nil })
}

// badDisk makes a flush fail: that of a directory, which the log asks for when it begins another file.
func (f *faults) badDisk() {
	b := f.someBox()
	if b == nil {
		return
	}
	f.count("bad disk", b.id)
	b.proc.breakDisk(f.w)
}

// wires breaks or stalls the connection of a client.
func (f *faults) wires() {
	if len(f.w.wires) == 0 {
		return
	}
	x := f.w.wires[f.w.rand().IntN(len(f.w.wires))]
	f.count("wire", x.id)
	if f.w.rand().IntN(2) == 0 {
		if !x.clientGone {
			x.client.drop("the connection was reset")
		}
		return
	}
	x.stalled = true
	f.w.sched.After(f.duration(4*time.Second), "wire", func() { x.stalled = false })
}

// breakDisk lets the next flush of a directory, or the next file's creation, fail.
func (p *process) breakDisk(w *world) {
	if p.doomed {
		return
	}
	p.doomed = true
	p.disk.Arm(vfs.Fault{Ops: vfs.OpSyncDir, Name: "wal", Sticky: true})
	_ = w
}
