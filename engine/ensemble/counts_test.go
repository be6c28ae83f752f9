package ensemble

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// recount is what Counts must say.
func (w *Watches) recount() WatchCounts {
	c := WatchCounts{Connections: len(w.watchers)}
	paths := map[string]bool{}
	for _, t := range []*table{&w.data, &w.child} {
		for path, outs := range t.paths {
			paths[path] = true
			c.Watches += len(outs)
		}
	}
	c.Paths = len(paths)
	return c
}

func TestWatchCountsAreKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	w := newWatches(1000, 100)
	outs := []*outbox{{}, {}, {}}
	kinds := []jute.WatcherType{jute.WatcherChildren, jute.WatcherData, jute.WatcherAny, jute.WatcherPersistent, jute.WatcherPersistentRecursive}
	events := []jute.EventType{jute.EventNodeCreated, jute.EventNodeDeleted, jute.EventNodeDataChanged, jute.EventNodeChildrenChanged}
	most := 0
	for step := range 20000 {
		out, path := outs[r.IntN(len(outs))], fmt.Sprintf("/%d", r.IntN(6))
		switch r.IntN(8) {
		case 0:
			w.Remove(out, path, kinds[r.IntN(len(kinds))])
		case 1:
			if r.IntN(10) == 0 {
				w.removeAll(out)
			}
		case 2, 3:
			w.fire(&znode.Change{Kind: events[r.IntN(len(events))], Path: path})
		default:
			if err := w.Add(out, path, WatchKind(r.IntN(4))); err != nil {
				t.Fatal(err)
			}
		}
		got, want := w.Counts(), w.recount()
		if got != want {
			t.Fatalf("step %d: %+v, want %+v", step, got, want)
		}
		most = max(most, got.Watches)
	}
	if most < 10 {
		t.Fatalf("at most %d watches: the test shows nothing", most)
	}
}

// A client that comes back to the leader with another timeout has it on every box, whoever leads next.
func TestAnotherTimeoutIsEverybodys(t *testing.T) {
	net := three(t, 11, limits.ZooKeeper{})
	leader, follower, _ := net.followers(t)
	g := net.openSession(t, leader, &outbox{})
	for _, timeoutMs := range []int32{12000, 12000, 6000} {
		done := false
		leader.Reattach(g.Session, g.Password[:], timeoutMs, &outbox{}, func(got Grant, err error) {
			if done = true; err != nil || got.TimeoutMs != timeoutMs {
				t.Errorf("%+v, %v", got, err)
			}
		})
		net.until(t, "reattach", &done)
		net.s.RunFor(time.Second)
		if s, _ := follower.tree.Session(g.Session); s.TimeoutMs != timeoutMs {
			t.Errorf("another box knows a timeout of %d ms, want %d", s.TimeoutMs, timeoutMs)
		}
	}
}
