package ensemble

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
)

// writer gives what creates so many znodes through a box, which must all come to be, and lets 5 ms pass.
func (n *network) writer(t *testing.T, b *box) func(count int, data string) {
	written := 0
	return func(count int, data string) {
		for range count {
			b.Propose(Write{Entry: op(0, create(fmt.Sprintf("/n%d", written), data, jute.Persistent))}, func(out znode.Outcome, err error) {
				if err != nil || out.Err != jute.OK {
					t.Errorf("a write: %v, %v", out.Err, err)
				}
			})
			written++
		}
		n.s.RunFor(5 * time.Millisecond)
	}
}

// A box that was brought a snapshot gets what was written meanwhile out of the log, and not another snapshot, and another.
func TestOneSnapshotIsEnoughWhileOthersWrite(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := smallLimits()
			l.CatchUpEntries, l.SnapshotEntries, l.SnapshotLogBytes = 20, 100_000, 2<<20
			net := three(t, seed, l)
			leader, lagging, _ := net.followers(t)
			net.cut[lagging.cfg.Box] = true
			write := net.writer(t, leader)
			for range 70 {
				write(10, strings.Repeat("x", 4000))
			}
			net.s.RunFor(time.Second)
			if leader.Status().Snapshot.Index == 0 {
				t.Fatal("the leader has no snapshot: the test shows nothing")
			}
			brought := net.snapshots
			away := 0
			net.arrived = func(to uint64) { net.cut[to], away = true, 40 } // the box answers late
			clear(net.cut)
			for n := 0; n < 300 && (away > 0 || lagging.Status().Zxid+200 < leader.Status().Zxid); n++ {
				write(50, "small")
				if away--; away == 0 {
					clear(net.cut)
				}
			}
			net.s.RunFor(time.Second)
			if lagging.Status().Zxid != leader.Status().Zxid || net.snapshots-brought != 1 {
				t.Fatalf("zxid %d, the leader's %d, %d snapshots were brought", lagging.Status().Zxid, leader.Status().Zxid, net.snapshots-brought)
			}
		})
	}
}

// A snapshot that is written for a box that lags is of use when it is there, however much was written meanwhile.
func TestASnapshotIsOfUseHoweverLongItTakes(t *testing.T) {
	l := smallLimits()
	l.CatchUpEntries, l.SnapshotEntries, l.SnapshotLogBytes = 20, 1000, 2<<20
	net := three(t, 5, l)
	net.slowTree = 500 * time.Millisecond
	leader, lagging, _ := net.followers(t)
	net.cut[lagging.cfg.Box] = true
	write := net.writer(t, leader)
	for range 60 {
		write(20, "")
	}
	clear(net.cut)
	before := leader.metrics.snapshots.Get()
	for n := 0; n < 600 && lagging.Status().Zxid+200 < leader.Status().Zxid; n++ {
		write(20, "")
	}
	if lagging.Status().Zxid+200 < leader.Status().Zxid {
		t.Fatalf("zxid %d, the leader's %d after %d snapshots", lagging.Status().Zxid, leader.Status().Zxid, leader.metrics.snapshots.Get()-before)
	}
}

// What stays for a box that catches up is bounded, and is not copied for every step.
func TestTheLogInMemoryStaysForWhoCatchesUp(t *testing.T) {
	s, err := newStorage(&raftlog.Recovered{})
	if err != nil {
		t.Fatal(err)
	}
	add := func(count int, data []byte) uint64 {
		last, _ := s.LastIndex()
		for range count {
			last++
			if err := s.add([]*pb.Entry{{Index: new(last), Term: new(uint64(1)), Data: data}}); err != nil {
				t.Fatal(err)
			}
		}
		return last
	}
	first := func(applied uint64) uint64 {
		t.Helper()
		if err := s.compact(applied, 20, 1<<20); err != nil {
			t.Fatal(err)
		}
		first, _ := s.FirstIndex()
		return first
	}
	applied := add(3000, make([]byte, 100))
	s.catching[2] = 10
	if got := first(applied); got != 1 {
		t.Fatalf("the log begins with %d for a step of ten", got)
	}
	s.catching[2], s.catching[3] = 2000, 1900
	if got := first(applied); got != 1901 {
		t.Fatalf("the log begins with %d, and 1901 is needed", got)
	}
	applied = add(500, make([]byte, 10_000)) // more than sendingFactor allows
	if got := first(applied); got <= 3000 {
		t.Fatalf("the log begins with %d though it is too large", got)
	}
}
