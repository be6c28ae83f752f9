package ensemble

import (
	"errors"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
	"cairn/platform/mailbox"
)

// network delivers messages between boxes under one scheduler, in the order of each pair, and loses some.
type network struct {
	s      *mailbox.Scheduler
	boxes  map[uint64]*box
	voters []uint64
	limits limits.ZooKeeper
	loss   int             // of a hundred
	cut    map[uint64]bool // boxes that are not reached
	mute   uint64          // a box that only urgent messages and snapshots reach
	// talks is a box of which others hear what is urgent, and promises, and nothing else.
	talks uint64
	deaf  map[[2]uint64]bool // from and to: what is sent on this way is lost
	lines map[[2]uint64][][]byte
	// loses, if any, says which messages are lost; the sender is told.
	loses func(from, to uint64, message []byte) bool
	// heard, if any, is called when a message arrives.
	heard    func(from, to uint64, message []byte)
	slowBulk time.Duration // for which what is not urgent is on its way
	// configure, if any, has the last word about a box's Config.
	configure func(*Config)
	slowDisk  map[uint64]time.Duration
	slowTree  time.Duration // how long a snapshot is written
	asks      bool          // boxes ask the others before they begin
	opened    uint64        // boxes that were, with asks
	slow      bool          // answers are kept
	answers   []func()
	// snapshots counts those that were brought to a box; with hold set none is.
	hold      bool
	snapshots int
	// arrived, if any, is called when a snapshot was brought to a box.
	arrived func(to uint64)
}

func newNetwork(s *mailbox.Scheduler, voters ...uint64) *network {
	return &network{s: s, boxes: map[uint64]*box{}, voters: voters, cut: map[uint64]bool{}, deaf: map[[2]uint64]bool{}, lines: map[[2]uint64][][]byte{}}
}

// port is one box's Transport.
type port struct {
	net  *network
	from uint64
}

func (p port) Send(to uint64, message []byte, urgent bool) {
	n := p.net
	if p.from == n.talks && !urgent && message[0] != framePromises {
		return
	}
	if to == n.mute && !urgent || n.cut[p.from] || n.cut[to] || n.deaf[[2]uint64{p.from, to}] || n.s.Rand().IntN(100) < n.loss {
		return
	}
	if n.loses != nil && n.loses(p.from, to, message) {
		n.s.Spawn("lost", func() {}, func() { n.boxes[p.from].Unreachable(to) })
		return
	}
	if n.slowBulk > 0 && !urgent {
		n.s.After(n.slowBulk, "slow message", func() { n.arrive(p.from, to, message) })
		return
	}
	line := [2]uint64{p.from, to}
	n.lines[line] = append(n.lines[line], message)
	n.s.Spawn("message", func() {}, func() {
		message := n.lines[line][0]
		n.lines[line] = n.lines[line][1:]
		n.arrive(p.from, to, message)
	})
}

func (n *network) arrive(from, to uint64, message []byte) {
	if b := n.boxes[to]; b != nil && !n.cut[to] {
		if n.heard != nil {
			n.heard(from, to, message)
		}
		if err := b.Receive(from, message); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFailed) {
			b.t.Errorf("box %d: %v", to, err)
		}
	}
}

func (p port) SendSnapshot(to uint64, index uint64, message []byte) {
	n := p.net
	n.s.Spawn("snapshot", func() {}, func() {
		from, b := n.boxes[p.from], n.boxes[to]
		ok := false
		if !n.cut[p.from] && !n.cut[to] && b != nil && !n.hold {
			ok = from.carry(b, index, message)
		}
		if ok {
			n.snapshots++
			if n.arrived != nil {
				n.arrived(to)
			}
		}
		from.SnapshotSent(to, ok)
	})
}

// carry brings a snapshot's file to another box.
func (b *box) carry(to *box, index uint64, message []byte) bool {
	src, err := b.OpenSnapshot(index)
	if err != nil {
		b.t.Error(err)
		return false
	}
	defer src.Close()
	if err := to.ReceiveSnapshot(b.cfg.Box, message, src.Size, src); err != nil {
		if !errors.Is(err, errUnwanted) {
			b.t.Error(err)
		}
		return false
	}
	return true
}

// Three boxes elect a leader, replicate, lose it, elect another and agree; what was acknowledged stays.
func TestThreeVotersAgree(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	s := scheduler(21)
	net := newNetwork(s, 1, 2, 3)
	net.loss = 3
	for id := uint64(1); id <= 3; id++ {
		net.boxes[id] = net.open(t, id, tempDir(t))
	}
	acked := map[string]bool{}
	for round := range 4 {
		leader := net.leader(t)
		for n := range 30 {
			path := fmt.Sprintf("/r%d-%d", round, n)
			leader.Propose(Write{Entry: op(0, create(path, "", jute.Persistent))}, func(out znode.Outcome, err error) {
				switch {
				case err == nil && out.Err == jute.OK:
					acked[path] = true
				case err != nil && !errors.Is(err, ErrUncertain) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNoQuorum):
					t.Errorf("%s: %v", path, err)
				}
			})
		}
		s.RunFor(200 * time.Millisecond)
		if len(acked) < 20*(round+1) {
			t.Fatalf("round %d: %d writes were acknowledged", round, len(acked))
		}
		// The leader is cut off: it must stop serving, and the others go on.
		clear(net.cut)
		net.cut[leader.cfg.Box] = true
		if !s.RunUntil(20*time.Second, func() bool { return !leader.Serving() }) {
			t.Fatalf("round %d: a leader without a quorum serves on", round)
		}
	}
	clear(net.cut)
	net.loss = 0
	net.leader(t)
	s.RunFor(5 * time.Second)
	var digests []uint64
	for id := uint64(1); id <= 3; id++ {
		b := net.boxes[id]
		if !b.Serving() {
			t.Fatalf("box %d does not serve: %+v", id, b.Status())
		}
		for path := range acked {
			if _, _, ok := b.get(path); !ok {
				t.Errorf("box %d has not %s", id, path)
			}
		}
		_ = b.View(func(tr *znode.Tree, _ *Watches) { digests = append(digests, tr.Digest()) })
	}
	if digests[0] != digests[1] || digests[1] != digests[2] {
		t.Fatalf("digests %x", digests)
	}
	for id := uint64(1); id <= 3; id++ {
		net.boxes[id].close()
	}
}

// runtime is a box's: its disk takes as long as slowDisk says.
func (n *network) runtime(id uint64) mailbox.Runtime {
	g := n.s.Group(n.s.Clock())
	g.Delay = func(name string) time.Duration {
		switch name {
		case "flush":
			return n.slowDisk[id]
		case "snapshot":
			return n.slowTree
		}
		return 0
	}
	return g
}

func (n *network) open(t *testing.T, id uint64, dir string) *box {
	cfg := Config{Dir: dir, Box: id, Voters: n.voters, Limits: n.limits}
	if n.configure != nil {
		n.configure(&cfg)
	}
	deps := Deps{Runtime: n.runtime(id), Random: seeded(id), Transport: port{n, id}}
	if n.asks {
		n.opened++
		deps.Random = seeded(id + 100*n.opened) // each directory has a name of its own
		deps.Ask = port{n, id}.ask
		for _, voter := range n.voters {
			cfg.Servers.Servers = append(cfg.Servers.Servers, serverLine(voter))
		}
	}
	return openDeps(t, cfg, deps)
}

// leader waits for a box that leads and is reached.
func (n *network) leader(t *testing.T) *box {
	t.Helper()
	var found *box
	ok := n.s.RunUntil(30*time.Second, func() bool {
		for id := uint64(1); id <= 3; id++ {
			if b := n.boxes[id]; !n.cut[id] && b.Serving() && b.Status().Role == "leader" {
				found = b
				return true
			}
		}
		return false
	})
	if !ok {
		t.Fatalf("no leader: %+v, %+v, %+v", n.boxes[1].Status(), n.boxes[2].Status(), n.boxes[3].Status())
	}
	return found
}
