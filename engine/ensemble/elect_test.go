package ensemble

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// resumed is how long it takes until a write through a box is acknowledged, tried again as often as it fails.
func (n *network) resumed(t *testing.T, b *box, path string) time.Duration {
	t.Helper()
	began, acked := n.s.Clock().Now().Mono, false
	try := func() {
		b.Propose(Write{Entry: op(0, create(path, "", jute.Persistent))}, func(out znode.Outcome, err error) {
			acked = acked || err == nil && (out.Err == jute.OK || out.Err == jute.NodeExists)
		})
	}
	for range 1000 {
		try()
		if n.s.RunUntil(10*time.Millisecond, func() bool { return acked }) {
			return n.s.Clock().Now().Mono - began
		}
	}
	t.Fatalf("box %d takes no write: %+v", b.cfg.Box, b.Status())
	return 0
}

// A leader whose process was stopped or whose links were cut says nothing, and nobody is told of it. The others replace it
// as soon as it was silent for an election's time: neither chance nor a split vote makes it longer.
func TestASilentLeaderIsReplacedInTime(t *testing.T) {
	const most = 850 * time.Millisecond // silence, a tick, the first voter's turn, and the second's if the first is not heard
	for seed := uint64(1); seed <= 30; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, a, _ := net.followers(t)
		net.s.RunFor(time.Duration(seed) * 37 * time.Millisecond)
		net.cut[leader.cfg.Box] = true
		if took := net.resumed(t, a, "/after"); took > most {
			t.Errorf("seed %d: a write was acknowledged after %v", seed, took)
		}
	}
}

// A leader that hears nobody steps down; those who heard it until then learn it at once, and need not wait for its silence.
func TestADeafLeaderIsReplacedInTime(t *testing.T) {
	const most = 1100 * time.Millisecond // until it looks, up to two elections' times, a turn, and an election
	for seed := uint64(1); seed <= 20; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, a, b := net.followers(t)
		net.s.RunFor(time.Duration(seed) * 37 * time.Millisecond)
		for _, from := range []*box{a, b} {
			net.deaf[[2]uint64{from.cfg.Box, leader.cfg.Box}] = true
		}
		if took := net.resumed(t, a, "/after"); took > most {
			t.Errorf("seed %d: a write was acknowledged after %v", seed, took)
		}
	}
}

// What a leader has sent before it was elected may come after its first entries, on another line.
func TestALateRequestForAVoteDisturbsNobody(t *testing.T) {
	net := three(t, 3, limits.ZooKeeper{})
	leader, follower, _ := net.followers(t)
	term := leader.Status().Term
	for beyond, want := range []uint64{leader.cfg.Box, 0} {
		m := &pb.Message{Type: pb.MsgPreVote.Enum(), From: new(leader.raftID.Load()), To: new(follower.raftID.Load()),
			Term: new(term + uint64(beyond)), LogTerm: new(uint64(0)), Index: new(uint64(0))}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := follower.Receive(leader.cfg.Box, append([]byte{frameRaft}, b...)); err != nil {
			t.Fatal(err)
		}
		net.s.RunUntil(10*time.Millisecond, func() bool { return follower.Status().Leader == 0 })
		if got := follower.Status().Leader; got != want {
			t.Errorf("asked for term %d: leader %d, want %d", m.GetTerm(), got, want)
		}
	}
}

// A vote may wait for a disk that is busy. The voter whose turn comes meanwhile does not stand, which would take its vote
// back from who is about to be elected with it.
func TestAVoteMayWaitForADisk(t *testing.T) {
	const flush = 330 * time.Millisecond
	for seed := uint64(1); seed <= 30; seed++ {
		net := three(t, seed, limits.ZooKeeper{})
		leader, a, b := net.followers(t)
		net.s.RunFor(time.Duration(seed) * 37 * time.Millisecond)
		net.slowDisk = map[uint64]time.Duration{a.cfg.Box: flush, b.cfg.Box: flush}
		id := leader.cfg.Box
		net.cut[id] = true
		a.Gone(id)
		b.Gone(id)
		// A flush may be under way; then the first's term and the other's vote, the first entry of the term, and the write are
		// flushed in turn, and once the two do not meet.
		took := net.resumed(t, b, "/after")
		if most := 5*flush + 200*time.Millisecond; took > most {
			t.Errorf("seed %d: a write was acknowledged after %v", seed, took)
		}
	}
}

// A follower that does not hear the leader asks the others in vain, again and again: they hear it, and it leads on.
func TestADeafFollowerDisturbsNobody(t *testing.T) {
	net := three(t, 2, limits.ZooKeeper{})
	leader, deaf, other := net.followers(t)
	term := leader.Status().Term
	net.deaf[[2]uint64{leader.cfg.Box, deaf.cfg.Box}] = true
	if !net.s.RunUntil(10*time.Second, func() bool { return !deaf.Serving() }) {
		t.Fatal("a box without a leader serves on")
	}
	for n := range 20 {
		net.s.RunFor(100 * time.Millisecond)
		if took := net.resumed(t, other, fmt.Sprintf("/n%d", n)); took > 50*time.Millisecond {
			t.Errorf("write %d took %v", n, took)
		}
	}
	if now := leader.Status(); now.Role != "leader" || now.Term != term {
		t.Fatalf("the leader was disturbed: %+v", now)
	}
	clear(net.deaf)
	net.served(t)
}
