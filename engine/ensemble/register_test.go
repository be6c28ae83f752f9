package ensemble

import (
	"fmt"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// registered registers every box and waits until all show all.
func (n *network) registered(t *testing.T) {
	t.Helper()
	for id, b := range n.boxes {
		ops := []jute.Op{{Type: znode.OpEnsure, Path: "/cairn/boxes"}, create(boxPath(id), "", jute.Ephemeral)}
		b.Register(Registration{Ops: ops}, func(_ Registered, err error) {
			if err != nil {
				t.Errorf("box %d: %v", id, err)
			}
		})
	}
	if !n.s.RunUntil(20*time.Second, func() bool {
		for _, b := range n.boxes {
			for id := range n.boxes {
				if _, _, ok := b.get(boxPath(id)); !ok {
					return false
				}
			}
		}
		return true
	}) {
		t.Fatal("not all boxes are registered")
	}
}

func boxPath(id uint64) string { return fmt.Sprint("/cairn/boxes/", id) }

// goes is how long a box's registration stays, as another box sees it.
func (n *network) goes(t *testing.T, seen *box, id uint64) time.Duration {
	t.Helper()
	began := n.s.Clock().Now().Mono
	if !n.s.RunUntil(20*time.Second, func() bool {
		_, _, ok := seen.get(boxPath(id))
		return !ok
	}) {
		t.Fatalf("the registration of box %d stays", id)
	}
	return n.s.Clock().Now().Mono - began
}

// A box that falls silent is registered for the length of its lease, one whose connection ends for a moment, and one that
// is silent for less stays. The leader's own registration ends with its silence, which its successor counts.
func TestABoxIsRegisteredWhileItIsHeard(t *testing.T) {
	for _, test := range []struct {
		name     string
		leader   bool
		gone     bool
		min, max time.Duration
	}{
		{"a silent follower", false, false, boxLease - 100*time.Millisecond, boxLease + 200*time.Millisecond},
		{"a follower whose connection ends", false, true, 0, 200 * time.Millisecond},
		{"a silent leader", true, false, boxLease / 2, 2*boxLease + 200*time.Millisecond},
		{"a leader whose connection ends", true, true, 0, boxLease / 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			net := three(t, 5, limits.ZooKeeper{})
			net.registered(t)
			leader, follower, other := net.followers(t)
			gone := follower
			if test.leader {
				gone = leader
			}
			id := gone.cfg.Box
			net.cut[id] = true
			net.s.RunFor(boxLease / 3)
			if _, _, ok := other.get(boxPath(id)); !ok {
				t.Fatal("a silence of a third of the lease ended the registration")
			}
			clear(net.cut)
			net.s.RunFor(3 * boxLease)
			leader = net.leader(t)
			if _, _, ok := other.get(boxPath(id)); !ok {
				t.Fatal("a box that is heard lost its registration")
			}
			if test.leader {
				gone, id = leader, leader.cfg.Box
				if other == leader {
					other = follower
				}
			}
			net.cut[id] = true
			if test.gone {
				for _, b := range net.boxes {
					b.Gone(id)
				}
			}
			if took := net.goes(t, other, id); took < test.min || took > test.max {
				t.Fatalf("the registration went after %v, want %v to %v", took, test.min, test.max)
			}
		})
	}
}
