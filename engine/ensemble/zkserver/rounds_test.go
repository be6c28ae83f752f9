package zkserver

import (
	"fmt"
	"testing"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
)

// A follower that is cut off answers what it has, as ZooKeeper's does; with linearizable reads it answers nothing until it
// is back, and then what was acknowledged before it was asked.
func TestAStaleFollower(t *testing.T) {
	for _, linearizable := range []bool{false, true} {
		t.Run(fmt.Sprint(linearizable), func(t *testing.T) {
			n := startTrio(t, func(e *ensemble.Config, c *Config) {
				c.LinearizableReads = linearizable
				e.LeaderlessMax = time.Minute // its clients are not sent away meanwhile
			})
			leader, follower := n.roles()
			w, r := n.boxes[leader].connect(t, 20000), n.boxes[follower].connect(t, 20000)
			w.must(1, jute.OpCreate, createBody("/v", []byte("old"), 0))
			r.must(1, jute.OpSync, pathBody("/v"))
			if got := value(t, r.must(2, jute.OpGetData, watchBody("/v", false))); got != "old" {
				t.Fatalf("%q", got)
			}
			n.isolate(follower)
			w.must(2, jute.OpSetData, setBody("/v", []byte("new"), -1))
			r.send(3, jute.OpGetData, watchBody("/v", false))
			if !linearizable {
				if got := value(t, r.reply()); got != "old" {
					t.Fatalf("a follower that is cut off knows %q: the test shows nothing", got)
				}
				return
			}
			answered := make(chan reply, 1)
			go func() {
				p, _ := r.next()
				answered <- p
			}()
			select {
			case p := <-answered:
				t.Fatalf("a follower that is cut off answered %q", value(t, p))
			case <-time.After(300 * time.Millisecond): // without the rule it answers at once
			}
			n.heal()
			if got := value(t, <-answered); got != "new" {
				t.Fatalf("a linearizable read saw %q", got)
			}
		})
	}
}

// Reads that wait for a round stand between pipelined writes: each sees exactly the writes before it, on the leader and on
// a follower.
func TestLinearizablePipeline(t *testing.T) {
	n := startTrio(t, func(_ *ensemble.Config, c *Config) { c.LinearizableReads = true })
	leader, follower := n.roles()
	for _, id := range []uint64{leader, follower} {
		c := n.boxes[id].connect(t, 20000)
		path := fmt.Sprintf("/n%d", id)
		c.must(1, jute.OpCreate, createBody(path, nil, 0))
		const rounds = 150
		for i := range int32(rounds) {
			c.send(10+3*i, jute.OpSetData, setBody(path, fmt.Append(nil, i), -1))
			c.send(11+3*i, jute.OpGetData, watchBody(path, false))
			if i%2 == 0 {
				c.send(12+3*i, jute.OpSync, pathBody(path))
			} else {
				c.send(12+3*i, jute.OpExists, watchBody(path, true))
			}
		}
		for i := range int32(3 * rounds) {
			p := c.reply()
			if p.Xid != 10+i || p.Err != jute.OK {
				t.Fatalf("box %d, answer %d: %+v", id, i, p.ReplyHeader)
			}
			if i%3 == 1 {
				if got := value(t, p); got != fmt.Sprint(i/3) {
					t.Fatalf("box %d: the read behind write %d saw %q", id, i/3, got)
				}
			}
			if i%3 == 2 && i/3%2 == 1 {
				var stat jute.Stat
				stat.Read(jute.NewReader(p.body))
				if stat.Version != i/3+1 {
					t.Fatalf("box %d: the exists behind write %d saw version %d", id, i/3, stat.Version)
				}
			}
		}
		c.must(jute.XidPing, jute.OpPing, nil)
	}
}
