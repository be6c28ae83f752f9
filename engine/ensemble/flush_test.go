package ensemble

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

func (b *box) flushes() uint64 {
	return b.deps.Observer.Metrics.Counter("cairn_raftlog_flushes_total").Get()
}

// A write costs each box one flush: to hear afterwards how far the log is committed costs none.
func TestAWriteIsOneFlushOnEachBox(t *testing.T) {
	net := three(t, 31, smallLimits())
	leader := net.leader(t)
	net.s.RunFor(time.Second)
	var before [4]uint64
	for id, b := range net.boxes {
		before[id] = b.flushes()
	}
	const writes = 20
	for n := range writes {
		if out, err := net.write(t, leader, op(0, create(fmt.Sprintf("/f%d", n), "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
			t.Fatalf("write %d: %v, %v", n, out.Err, err)
		}
		net.s.RunFor(200 * time.Millisecond) // the followers hear of the commit, and the heartbeats go on
	}
	for id, b := range net.boxes {
		if n := b.flushes() - before[id]; n < writes || n > writes+2 {
			t.Errorf("box %d: %d flushes for %d writes", id, n, writes)
		}
		if _, _, ok := b.get(fmt.Sprintf("/f%d", writes-1)); !ok {
			t.Errorf("box %d has not the last write", id)
		}
	}
}

// A follower acknowledges a write once: that it hears how far the log is committed is no news to the leader.
func TestAnAcknowledgementIsSaidOnce(t *testing.T) {
	net := three(t, 32, smallLimits())
	leader := net.leader(t)
	net.s.RunFor(time.Second)
	said := 0
	net.loses = func(from, to uint64, message []byte) bool {
		if m, err := leader.decodeRaft(from, message[1:]); message[0] == frameRaft && err == nil && m.GetType() == pb.MsgAppResp {
			said++
		}
		return false
	}
	const writes = 20
	for n := range writes {
		if out, err := net.write(t, leader, op(0, create(fmt.Sprintf("/f%d", n), "", jute.Persistent)), nil); err != nil || out.Err != jute.OK {
			t.Fatalf("write %d: %v, %v", n, out.Err, err)
		}
		net.s.RunFor(200 * time.Millisecond)
	}
	if said != 2*writes {
		t.Errorf("%d acknowledgements of two followers for %d writes", said, writes)
	}
}

// The leader asks with every heartbeat for what it has not heard, and is answered though it was told before.
func TestAnAcknowledgementThatWasLostIsSaidAgain(t *testing.T) {
	net := three(t, 33, smallLimits())
	leader := net.leader(t)
	net.s.RunFor(time.Second)
	var applied bool
	for round := range 10 {
		for id := range net.boxes {
			net.deaf[[2]uint64{id, leader.cfg.Box}] = true
		}
		applied = false
		leader.Propose(Write{Entry: op(0, create(fmt.Sprintf("/f%d", round), "", jute.Persistent))}, func(_ znode.Outcome, err error) { applied = err == nil })
		net.s.RunFor(20 * time.Millisecond)
		clear(net.deaf)
		if applied {
			t.Fatalf("round %d: acknowledged though the leader heard nobody", round)
		}
		if !net.s.RunUntil(4*leader.cfg.HeartbeatInterval, func() bool { return applied }) {
			t.Fatalf("round %d: not acknowledged after four heartbeats", round)
		}
	}
}

// Whoever was told that the tree is recent may look at it and write to it: a new tree has its secret by then.
func TestAReadIndexIsAnsweredWhenTheDoorsAreOpen(t *testing.T) {
	s := scheduler(3)
	b := openOn(t, s, seeded(3), Config{Dir: tempDir(t)})
	var told, served bool
	b.ReadIndex(func(_ uint64, err error) { told, served = true, err == nil && b.Serving() })
	if !s.RunUntil(10*time.Second, func() bool { return told }) || !served {
		t.Fatalf("told %v, served %v", told, served)
	}
	b.close()
}
