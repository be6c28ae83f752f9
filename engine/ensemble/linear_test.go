package ensemble

import (
	"fmt"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/limits"
)

// On a network that loses messages, whatever a box has missed: what it shows when a read index is answered is no older
// than what was acknowledged when the read index was asked for. What it shows without one is older at times: otherwise
// the test shows nothing.
// semantics 29: a sync is such a read index.
func TestAReadIndexIsNeverStale(t *testing.T) {
	stale := 0
	for seed := uint64(1); seed <= 10; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		_, follower, _ := net.followers(t)
		asked, answered := 0, 0
		for n := 1; n <= 40; n++ {
			switch n % 10 {
			case 3:
				net.cut[follower.cfg.Box] = true
			case 7:
				clear(net.cut)
			}
			net.loss = 2
			path := fmt.Sprintf("/n%d", n)
			out, err := net.write(t, net.leader(t), op(0, create(path, "", jute.Persistent)), nil)
			if err != nil || out.Err != jute.OK || !follower.Serving() {
				continue // nothing was acknowledged, or its clients were sent away
			}
			if _, _, ok := follower.get(path); !ok {
				stale++
			}
			asked++
			follower.ReadIndex(func(_ uint64, err error) {
				answered++
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
				if _, _, ok := follower.tree.Peek(path); !ok {
					t.Errorf("seed %d: the read index taken after write %d does not show it", seed, n)
				}
			})
			net.s.RunFor(10 * time.Millisecond)
		}
		net.loss = 0
		clear(net.cut)
		if !net.s.RunUntil(60*time.Second, func() bool { return answered == asked }) {
			t.Fatalf("seed %d: %d of %d read indexes were answered", seed, answered, asked)
		}
	}
	if stale == 0 {
		t.Fatal("the follower was never behind")
	}
	t.Logf("%d reads without a read index were stale", stale)
}
