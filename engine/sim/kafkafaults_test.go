package sim

import (
	"errors"
	"path"
	"time"

	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/platform/vfs"
)

// topicsDir is a box's log directory.
const topicsDir = dataDir + "/topics"

// fullDisk leaves no space in a box's log directory for a while.
func (f *faults) fullDisk() {
	b := f.someBox()
	if b == nil {
		return
	}
	f.count("full disk", b.id)
	p := b.proc
	p.disk.Arm(vfs.Fault{Ops: vfs.OpWrite | vfs.OpPreallocate | vfs.OpMkdir, Name: topicsDir, Err: vfs.ErrNoSpace, WritePrefix: -1, Sticky: true})
	f.w.sched.After(f.duration(3*time.Second), "space", func() {
		if !p.doomed {
			p.disk.Disarm()
		}
		f.mendDirectory(p)
	})
}

// mendDirectory starts a box again whose log directory has failed: a log that was to be cut when there was no space is read by nobody
// but the recovery.
func (f *faults) mendDirectory(p *process) {
	failed := false
	if p.box.proc == p && !p.box.stopping {
		p.Replicas(func(r *replica.Replica) { failed = failed || errors.Is(r.View().Err, seglog.ErrFailed) })
	}
	if failed {
		f.count("directory failed for want of space", p.box.id)
		p.box.kill()
		f.w.restart(p.box)
	}
}

// badLogDirectory makes a flush of some log fail. The directory has failed until the box starts again, which it does in a while; the
// box goes on without it.
func (f *faults) badLogDirectory() {
	b := f.someBox()
	if b == nil || b.proc.doomed || b.stopping {
		return
	}
	f.count("bad log directory", b.id)
	p := b.proc
	p.doomed = true
	p.disk.Arm(vfs.Fault{Ops: vfs.OpSync, Name: topicsDir, Sticky: true})
	f.w.sched.After(time.Second+f.duration(3*time.Second), "repaired", func() {
		if b.proc == p && !b.stopping {
			b.kill()
			f.w.restart(b)
		}
	})
}

// trap is a power cut that waits for the moment at which it hurts.
type trap uint8

const (
	noTrap trap = iota
	// trapAcknowledged: a leader has just acknowledged something; all boxes lose power.
	trapAcknowledged
	// trapCopied: a follower has just copied what its leader has not flushed; the leader loses power, and is soon back.
	trapCopied
)

// lay lays a trap.
func (f *faults) lay() {
	k, r := f.w.kafka, f.w.rand()
	if k.trap != noTrap {
		return
	}
	k.trap = trapAcknowledged + trap(r.IntN(2))
	f.count("trap")
	if k.trap == trapAcknowledged { // what counts as flushed somewhere and is not is best seen where flushes take long
		for _, id := range f.w.ids {
			if b := f.w.boxes[id]; b.proc != nil && r.IntN(2) == 0 {
				f.slowDown(b, 100*time.Millisecond)
			}
		}
	}
}

// watchTrap is told of a box's partition that has changed.
func (k *kafka) watchTrap(b *box, p partitionName, old, v *replica.View) {
	switch {
	case old == nil || k.sprung != nil:
	case k.trap == trapAcknowledged && v.Leader && old.Leader && v.HighWatermark > old.HighWatermark:
		k.sprung = func() {
			for _, id := range k.w.ids {
				k.cutPower(k.w.boxes[id], 3*time.Second)
			}
		}
	case k.trap == trapCopied && !v.Leader && v.End > old.End:
		leader := k.w.boxes[k.truth[p].leaders[v.LeaderEpoch]]
		if leader == nil || leader == b || leader.proc == nil {
			return
		}
		if r := leader.proc.replicaOf(p); r != nil && r.View().Log.FlushedEnd() < v.End {
			k.sprung = func() { k.cutPower(leader, 100*time.Millisecond) }
		}
	}
}

// spring takes the power as a trap has found, when the step is over.
func (k *kafka) spring() {
	if k.sprung == nil {
		return
	}
	cut := k.sprung
	k.sprung, k.trap = nil, noTrap
	if !k.w.faults.ended {
		cut()
	}
}

// cutPower takes a box's power, and gives it back within a time.
func (k *kafka) cutPower(b *box, within time.Duration) {
	if b.proc == nil {
		return
	}
	b.crash(powercut.Tail{}, powercut.Damage{}, false)
	k.w.sched.After(time.Duration(k.w.rand().Int64N(int64(within))), "power", func() {
		if b.proc == nil && !k.w.over {
			b.open()
		}
	})
}

// wipe empties a box's log directory while the box is down, or its whole disk.
func (f *faults) wipe(b *box) {
	dir := topicsDir
	if f.w.rand().IntN(2) == 0 {
		dir = dataDir
	}
	f.w.trace("box %d loses %s", b.id, dir)
	if err := removeAll(b.mem, dir); err != nil {
		f.w.failf("%v", err)
	}
}

func removeAll(fs vfs.FS, dir string) error {
	infos, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		name := path.Join(dir, info.Name)
		if info.IsDir {
			err = removeAll(fs, name)
		} else {
			err = fs.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return fs.Remove(dir)
}
