package topics

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/platform/vfs"
)

// led is partition 0 of a topic on this box and another, which leads it; isr are in sync, elr eligible.
func (g *rig) ledElsewhere(name string, leaderEpoch int32, isr, elr []int32) catalog.Change {
	return catalog.Change{Path: catalog.StatePath(name, 0), Data: catalog.EncodeState(catalog.PartitionState{
		Leader: 2, LeaderEpoch: leaderEpoch, LeaderBrokerEpoch: 7, ISR: isr, ELR: elr,
		Directories: map[int32]catalog.UUID{box: catalog.UUID(g.dir.ID())}})}
}

// otherBroker registers it.
var otherBroker = catalog.Change{Path: catalog.BrokerPath(2), Data: catalog.EncodeBroker(&catalog.Broker{ID: 2, Incarnation: catalog.UUID{9}}), Czxid: 7}

func told(g *rig, want map[catalog.UUID][]int32) func() bool {
	return func() bool { return g.offline != nil && maps.EqualFunc(g.offline, want, slices.Equal[[]int32]) }
}

// A log that is lost or damaged is told to the cluster before this box registers. It begins anew from its leader when nobody counts on
// it any more, and not before.
func TestAReplicaThatCannotBeOpened(t *testing.T) {
	for how, damage := range map[string]func(fs *vfs.Mem) error{
		"lost":    func(fs *vfs.Mem) error { return fs.Rename("/data/t-0", "/lost") },
		"damaged": func(fs *vfs.Mem) error { return fs.Remove("/data/t-0/00000000000000000000.log") },
	} {
		t.Run(how, func(t *testing.T) {
			fs := vfs.NewMem()
			g := started(t, fs, 61)
			g.feed(g.held("t", id(1), 0, box, 2)...)
			g.write(g.leads("t", id(1)), 5)
			g.close()
			if err := damage(fs); err != nil {
				t.Fatal(err)
			}

			g = openBox(t, fs, 62)
			g.feed(append(g.held("t", id(1), 1, box, 2), otherBroker)...)
			g.topics.Start()
			g.until("everything is open", func() bool { return g.opened == 1 })
			if !told(g, map[catalog.UUID][]int32{id(1): {0}})() {
				t.Fatalf("told before it registers: %v", g.offline)
			}
			g.feed(g.registration(incarnation))
			for _, state := range []catalog.Change{
				g.ledElsewhere("t", 2, []int32{2, box}, nil), g.ledElsewhere("t", 2, []int32{2}, []int32{box}),
				{Path: catalog.StatePath("t", 0), Data: catalog.EncodeState(catalog.PartitionState{Leader: catalog.NoLeader, LeaderEpoch: 3, ISR: []int32{2}})},
			} {
				g.feed(state)
				g.sched.RunFor(time.Minute)
				if _, err := g.topics.Lookup("t", 0); !errors.Is(err, ErrOffline) {
					t.Fatalf("it is counted on, and %v", err)
				}
			}
			g.feed(g.ledElsewhere("t", 4, []int32{2}, nil))
			g.until("it begins anew", told(g, map[catalog.UUID][]int32{}))
			r, err := g.topics.Lookup("t", 0)
			if err != nil || r.View().End != 0 || (how == "damaged") != (g.count("t", "-stray") == 1) {
				t.Fatalf("%v, %v", err, g.names())
			}
			g.close()
		})
	}
}

// A replica that fails while its log directory works is told of, and again nothing of a directory that is gone.
func TestAReplicaThatFailsIsToldOf(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 63)
	g.feed(g.topic("t", id(1), 0)...)
	r := g.leads("t", id(1))
	g.topics.Failed(r)
	g.until("told", told(g, map[catalog.UUID][]int32{id(1): {0}}))
	g.feed(g.topicIn("u", id(2), 0, id(77))...)
	g.until("offline", func() bool { _, err := g.topics.Lookup("u", 0); return errors.Is(err, ErrOffline) })
	g.feed(append(gone("t"), mark("t", id(1)))...)
	g.until("nothing is left to tell", told(g, map[catalog.UUID][]int32{}))
	g.close()
}
