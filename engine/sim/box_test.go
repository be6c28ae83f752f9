package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cairn/engine/broker/topics"
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/raftlog/powercut"
	"cairn/engine/ensemble/zkserver"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
	boxlink "cairn/engine/link"
	"cairn/engine/node"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

// box is one box over all its processes.
type box struct {
	w    *world
	id   uint64
	dir  string
	life int // counts directories
	wall wallClock
	proc *process // nil while it is down
	// paused: its process stands still, as if stopped by a signal.
	paused bool
	// power is armed when the power is to go at the next flush.
	power *powerCut
	// stopping: it is closing in an orderly way.
	stopping bool
	stopped  func() // when it has
	mem      *vfs.Mem
}

// wallClock is the world's monotonic clock with a wall time of the box's own.
type wallClock struct {
	*clock.Virtual
	off time.Duration
}

// Now implements clock.Clock.
func (c *wallClock) Now() clock.Now {
	now := c.Virtual.Now()
	now.Wall = now.Wall.Add(c.off)
	return now
}

// process is one life of a box.
type process struct {
	box    *box
	dead   bool // what it says reaches nobody any more
	group  *mailbox.Group
	disk   *vfs.Plan
	doomed bool // a fault of its disk was planned
	node   *node.Node
	node.Rooms
	link  *link
	doors map[int]*door // by port
	left  string        // a directory to be removed when it is closed
	// closing: it is being closed; closed: nothing of it is left.
	closing, closed bool
}

// faulty tells whether the process may end by itself: its disk was made to fail.
func (p *process) faulty() bool { return p.doomed }

func smallLimits() limits.Limits {
	l := limits.Derive(0)
	l.ZooKeeper.LogSegmentBytes = 8 << 10
	l.ZooKeeper.SnapshotEntries = 150
	l.ZooKeeper.CatchUpEntries = 60
	return l
}

// tick is ZooKeeper's tickTime here: short, so that sessions end within a run.
const tick = 500 * time.Millisecond

// open starts the box's process: the constructor that the binary calls, on the world's clock, disks and network.
func (b *box) open() {
	w := b.w
	w.net.forget(b.id)
	p := &process{box: b, disk: vfs.NewPlan(), doors: map[int]*door{}}
	p.group = w.sched.Group(&b.wall)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], w.rand().Uint64())
	n, err := node.Open(w.nodeConfig(b), node.Deps{
		Runtime: p.group, Clock: &b.wall, FS: vfs.WithErrors(disks{w.dir, vfs.OS(), b.mem}, p.disk), Observer: w.observer(b), Random: rand.NewChaCha8(seed),
		Listen: p.listen, Synchronised: func() bool { return false },
		Link: func(cfg boxlink.Config) (node.Link, error) { p.link = newLink(w.net, p, cfg); return p.link, nil },
	})
	if err != nil {
		w.failf("box %d does not open: %v", b.id, err)
		return
	}
	p.node, p.Rooms = n, n.Rooms(w.t)
	if _, err := p.Ensemble.Subscribe("/", func(batch ensemble.Batch) {
		if !p.dead {
			w.applied(b, batch)
		}
	}); err != nil {
		w.failf("box %d is not followed: %v", b.id, err)
	}
	b.proc, b.paused, b.stopping = p, false, false
	w.trace("box %d opens", b.id)
}

// dataDir is where a box believes to have everything; its raft log alone lies on files of the operating system.
const dataDir = "/box"

// nodeConfig is what the box is told to be.
func (w *world) nodeConfig(b *box) node.Config {
	servers := w.servers()
	cfg := node.Config{
		Version: "sim", Data: dataDir, CPUs: 2, Limits: w.limits,
		ZooKeeper: &node.ZooKeeper{Listen: fmt.Sprintf("10.0.0.%d:%d", b.id, zookeeperPort), LinearizableReads: w.linearizable},
		Ensemble: &node.Ensemble{
			Box: b.id, Voters: w.voters, Learners: w.learners, Servers: servers, Cluster: "sim", Peers: map[uint64]string{}, Listen: "a link of the world's",
		},
	}
	for _, s := range servers.Servers {
		if uint64(s.ID) != b.id {
			cfg.Ensemble.Peers[uint64(s.ID)] = s.PeerAddress()
		}
	}
	if w.kafka != nil {
		cfg.Kafka = &node.Kafka{Listen: fmt.Sprintf("10.0.0.%d:%d", b.id, kafkaPort), Settings: map[string]string{
			"offsets.topic.num.partitions": strconv.Itoa(offsetsPartitions), "cairn.rebalance.away.ms": "3000",
		}}
	}
	adjust := node.Adjust{
		Ensemble: func(c *ensemble.Config) { c.Dir, c.TickTime = b.dir, tick },
		ZooKeeper: func(c *zkserver.Config) {
			c.TickTime = tick
			if w.cfg.server != nil {
				*c = w.cfg.server(*c)
			}
		},
	}
	if w.kafka != nil {
		adjust.Topics = func(c *topics.Config) { c.RetentionInterval = time.Second }
	}
	if w.cfg.bug != nil {
		w.cfg.bug(&adjust)
	}
	return cfg.With(w.t, adjust)
}

// observer puts what a box logs into the trace, where all of it is kept.
func (w *world) observer(b *box) *observe.Observer {
	if w.lines == nil {
		return observe.Discard()
	}
	handler := slog.NewTextHandler(logged{w, b}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || strings.Contains(a.Value.String(), w.dir) {
			return slog.Attr{} // the one is the bubble's, the other another one in each run
		}
		return a
	}})
	return observe.New(slog.New(handler))
}

// logged is a box's log. Connections write to it from goroutines of their own: what they say is not traced.
type logged struct {
	w *world
	b *box
}

// Write implements io.Writer.
func (l logged) Write(line []byte) (int, error) {
	l.w.sched.Pass()
	defer l.w.sched.Pass()
	if !strings.Contains(string(line), "connection") {
		l.w.trace("box %d says %s", l.b.id, strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// servers is the configuration that the ensemble begins with.
func (w *world) servers() quorum.Config {
	var lines []string
	for _, id := range w.ids {
		role := "participant"
		if len(w.learners) > 0 && id == w.learners[0] {
			role = "observer"
		}
		lines = append(lines, fmt.Sprintf("server.%d=10.0.0.%d:2888:3888:%s;0.0.0.0:2181", id, id, role))
	}
	c, err := quorum.ParseConfig(strings.Join(lines, "\n"))
	if err != nil {
		w.failf("%v", err)
	}
	return c
}

// close ends what remains of a process, as the world goes on. Of one that is dead nothing that it does arrives anywhere.
func (p *process) close() {
	if p.closing {
		return
	}
	p.closing = true
	w := p.box.w
	w.ending = append(w.ending, p)
	go func() {
		err := p.node.Close()
		w.sched.Pass()
		defer w.sched.Pass()
		if err != nil && !p.dead && !p.faulty() && !errors.Is(err, vfs.ErrNoSpace) {
			w.failf("box %d does not close: %v", p.box.id, err)
		}
		p.closed = true
	}()
}

// end is the end of the process: its connections end, and the box is down. told: its kernel says so to the others.
func (b *box) end(told bool) *process {
	p := b.proc
	p.dead, b.proc, b.power = true, nil, nil
	p.group.Pause(false)
	p.group.Delay = nil
	for _, x := range b.w.wires {
		if x.box == b {
			x.crash(told)
		}
	}
	b.w.net.ended(p, told)
	return p
}

// kill is kill -9: the directory stays as it was written.
func (b *box) kill() { b.crash(powercut.Tail{}, powercut.Damage{}, true) }

// crash ends the process and gives the box what it leaves on its disk.
func (b *box) crash(tail powercut.Tail, d powercut.Damage, told bool) {
	if b.proc == nil {
		return
	}
	b.w.trace("box %d ends: %v told %v", b.id, d, told)
	p := b.end(told)
	b.life++
	next := filepath.Join(b.w.dir, fmt.Sprintf("box%d.%d", b.id, b.life))
	if err := powercut.Copy(b.dir, next, tail, d); err != nil {
		b.w.failf("box %d: %v", b.id, err)
	}
	if told {
		b.mem = b.mem.CrashAll()
	} else {
		b.mem = b.mem.Crash(b.w.rand())
	}
	p.close()
	p.left = b.dir
	b.dir = next
}

// powerCut waits for the moment at which it hurts: a flush has been written and is not durable yet.
type powerCut struct {
	synced   raftlog.Position
	segments int
	deadline time.Duration
}

func (b *box) armPowerCut() {
	if b.proc == nil || b.power != nil {
		return
	}
	b.power = &powerCut{synced: b.proc.Ensemble.LogSynced(), segments: b.countSegments(), deadline: b.w.now() + 300*time.Millisecond}
}

// watchPower cuts the power when a flush has just been written, or when there was none for long.
func (b *box) watchPower() {
	if b.power == nil || b.proc == nil {
		return
	}
	was, now := b.power, b.proc.Ensemble.LogSynced()
	if now == was.synced {
		if b.w.now() >= was.deadline {
			b.crash(powercut.Tail{}, powercut.Damage{}, false)
		}
		return
	}
	left := b.countSegments()
	if left < was.segments || now.File != was.synced.File && left == was.segments {
		b.power.synced, b.power.segments = now, left // it dropped files, which it does behind the flush: the next one
		return
	}
	tail := powercut.Tail{File: now.File, Flushed: was.synced.Length}
	if now.File != was.synced.File {
		tail.Flushed = 0
	}
	r := b.w.rand()
	d := powercut.Damage{Kind: powercut.Kind(r.IntN(int(powercut.Kinds))), Seed: r.Uint64()}
	d.At = tail.Flushed + r.Int64N(max(now.Length-tail.Flushed, 1))
	b.w.powerCuts++
	b.crash(tail, d, false)
}

func (b *box) countSegments() int {
	names, err := filepath.Glob(filepath.Join(b.dir, "wal", strings.Repeat("?", 20)))
	if err != nil {
		b.w.failf("%v", err)
	}
	return len(names)
}

// stop is an orderly end: the box hands over what it leads, and closes.
func (b *box) stop(then func()) {
	if b.proc == nil || b.stopping {
		return
	}
	b.stopping, b.stopped = true, then
	b.w.trace("box %d stops", b.id)
	b.proc.close()
}

// pause stops the process for a while, as a signal does, or a hypervisor.
func (b *box) pause(for_ time.Duration) {
	if b.proc == nil || b.paused {
		return
	}
	p := b.proc
	b.paused = true
	p.group.Pause(true)
	b.w.sched.After(for_, "unpause", func() {
		if b.proc == p {
			b.paused = false
			p.group.Pause(false)
		}
	})
}

// tree is what the box holds, for the last judgement.
func (b *box) tree(visit func(path string, data []byte, stat jute.Stat)) error {
	return b.proc.Ensemble.View(func(t *znode.Tree, _ *ensemble.Watches) {
		t.Walk("/", func(path string, data []byte, stat jute.Stat) bool {
			visit(path, data, stat)
			return true
		})
	})
}
