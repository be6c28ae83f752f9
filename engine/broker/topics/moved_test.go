package topics

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/platform/vfs"
)

// held is a topic of one partition on the given brokers, led by this box where it is one of them.
func (g *rig) held(name string, id catalog.UUID, leaderEpoch int32, brokers ...int32) []catalog.Change {
	state := catalog.PartitionState{Leader: catalog.NoLeader, LeaderEpoch: leaderEpoch, ISR: brokers[:1]}
	if slices.Contains(brokers, box) {
		state.Leader, state.LeaderBrokerEpoch, state.ISR = box, g.epoch, []int32{box}
		state.Directories = map[int32]catalog.UUID{box: catalog.UUID(g.dir.ID())}
	}
	return []catalog.Change{
		{Path: catalog.TopicPath(name), Data: catalog.EncodeTopic(catalog.TopicAssignment{ID: id, Partitions: [][]int32{brokers}})},
		{Path: catalog.StatePath(name, 0), Data: catalog.EncodeState(state)},
	}
}

// A partition that a reassignment has taken from this box is deleted here, whatever is under way; when it comes back it is
// empty.
func TestAPartitionThatMovesAwayIsDeleted(t *testing.T) {
	for seed := range uint64(60) {
		g := started(t, vfs.NewMem(), seed)
		g.feed(g.held("t", id(1), 0, box, 2)...)
		for range seed / 2 {
			g.sched.Step()
		}
		if r, err := g.topics.Lookup("t", 0); err == nil && r.View().Leader {
			g.write(r, 3)
		}
		g.feed(g.held("t", id(1), 1, 2)...)
		for range seed % 7 {
			g.sched.Step()
		}
		if seed%2 == 0 {
			g.until("swept", func() bool {
				_, err := g.topics.Lookup("t", 0)
				return errors.Is(err, ErrUnknown) && len(g.names()) == 0
			})
			g.feed(g.held("t", id(1), 2, 2, box)...)
			if v := g.leads("t", id(1)).View(); v.End != 0 {
				t.Fatalf("seed %d: it comes back with %d records", seed, v.End)
			}
		}
		g.close()
	}
}

// One that has moved away while this box was down is set aside, once the catalog is current, and not before.
func TestAPartitionThatMovedAwayMeanwhileIsSetAside(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 41)
	g.feed(g.held("t", id(1), 0, box, 2)...)
	g.write(g.leads("t", id(1)), 3)
	g.close()

	g = openBox(t, fs, 42)
	g.feed(append(g.held("t", id(1), 1, 2), g.registration(incarnation))...)
	g.sched.RunFor(time.Second)
	if !slices.Equal(g.names(), []string{"t-0"}) {
		t.Fatalf("before the start: %v", g.names())
	}
	g.topics.Start()
	g.until("set aside", func() bool { return g.count("t", "-stray") == 1 && g.count("t", "-0") == 0 })
	g.feed(g.held("t", id(1), 2, 2, box)...)
	if v := g.leads("t", id(1)).View(); v.End != 0 {
		t.Fatalf("it comes back with %d records", v.End)
	}
	g.close()
}

// A replica whose disk is lost stays offline, until the catalog gives it another directory of this box: there it begins empty.
func TestAReplicaBeginsAnewOnAnotherDisk(t *testing.T) {
	g := started(t, vfs.NewMem(), 43)
	g.feed(g.topicIn("t", id(1), 0, catalog.UUID{0xde, 0xad})...)
	g.until("offline", func() bool {
		_, err := g.topics.Lookup("t", 0)
		return errors.Is(err, ErrOffline)
	})
	g.feed(g.state("t", 1, catalog.UUID{0xde, 0xad}))
	g.sched.RunFor(time.Second)
	if _, err := g.topics.Lookup("t", 0); !errors.Is(err, ErrOffline) || len(g.names()) > 0 {
		t.Fatalf("%v, %v", err, g.names())
	}
	g.feed(g.state("t", 2, catalog.UUID(g.dir.ID())))
	if v := g.leads("t", id(1)).View(); v.End != 0 {
		t.Fatalf("%d records", v.End)
	}
	g.close()
}
