package ensemble

import (
	"errors"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/platform/mailbox"
)

// network delivers messages between boxes under one scheduler, and loses some.
type network struct {
	s     *mailbox.Scheduler
	boxes map[uint64]*box
	loss  int             // of a hundred
	cut   map[uint64]bool // boxes that are not reached
}

// port is one box's Transport.
type port struct {
	net  *network
	from uint64
}

func (p port) Send(to uint64, message []byte, _ bool) {
	n := p.net
	if n.cut[p.from] || n.cut[to] || n.s.Rand().IntN(100) < n.loss {
		return
	}
	n.s.Spawn("message", func() {}, func() {
		if b := n.boxes[to]; b != nil && !n.cut[to] {
			if err := b.Receive(message); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrClosed) {
				b.t.Errorf("box %d: %v", to, err)
			}
		}
	})
}

func (p port) SendSnapshot(uint64, uint64, []byte) {}

// The layout carries several voters, though membership, snapshots to others and forwarding are still to come: three
// boxes elect a leader, replicate, lose it, elect another and agree; what was acknowledged stays.
func TestThreeVotersAgree(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	s := scheduler(21)
	net := &network{s: s, boxes: map[uint64]*box{}, loss: 3, cut: map[uint64]bool{}}
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

func (n *network) open(t *testing.T, id uint64, dir string) *box {
	cfg := Config{Dir: dir, Box: id, Voters: []uint64{1, 2, 3}}
	return openTransport(t, n.s, seeded(id), cfg, port{n, id})
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
