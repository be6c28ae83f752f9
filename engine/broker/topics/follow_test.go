package topics

import (
	"slices"
	"testing"

	"cairn/engine/broker/catalog"
	"cairn/platform/vfs"
)

// A partition that another broker leads is followed: from the moment at which both are registered, under each new leader, and
// until this box leads it, or holds it no more.
func TestFollowing(t *testing.T) {
	g := openBox(t, vfs.NewMem(), 31)
	broker := func(id int32, czxid int64) catalog.Change {
		return catalog.Change{Path: catalog.BrokerPath(id), Data: catalog.EncodeBroker(&catalog.Broker{ID: id, Incarnation: catalog.UUID{byte(id)}}), Czxid: czxid}
	}
	state := func(leader int32, epoch int32, brokerEpoch int64, isr ...int32) catalog.Change {
		return catalog.Change{Path: catalog.StatePath("t", 0), Data: catalog.EncodeState(catalog.PartitionState{
			Leader: leader, LeaderEpoch: epoch, LeaderBrokerEpoch: brokerEpoch, ISR: isr, Directories: map[int32]catalog.UUID{box: catalog.UUID(g.dir.ID())},
		})}
	}
	topic := catalog.Change{Path: catalog.TopicPath("t"), Data: catalog.EncodeTopic(catalog.TopicAssignment{ID: id(1), Partitions: [][]int32{{2, box, 3}}})}
	g.feed(broker(2, 20), topic, state(2, 1, 20, 2))
	g.topics.Start()
	g.until("it is open", func() bool { return g.opened == 1 })
	if len(g.follow) > 0 {
		t.Fatalf("before the box is registered: %q", g.follow)
	}
	expect := func(what, want string, changes ...catalog.Change) {
		t.Helper()
		g.follow = nil
		g.feed(changes...)
		g.sched.RunFor(1e9)
		if got := g.follow; want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	expect("it is registered", "t-0 2 false", g.registration(incarnation))
	expect("it is in sync", "t-0 2 true", state(2, 1, 20, 2, box))
	expect("another joins", "", state(2, 1, 20, 2, box, 3))
	expect("the leader is elected again", "t-0 2 true", state(2, 2, 20, 2, box))
	expect("the leader's registration ends", "t-0 -1 false", catalog.Change{Kind: catalog.Deleted, Path: catalog.BrokerPath(2)})
	expect("it comes back, and is not elected", "", broker(2, 21))
	expect("another leads", "t-0 3 true", broker(3, 30), state(3, 3, 30, box, 3))
	expect("this box leads", "t-0 -1 false", state(box, 4, g.epoch, box, 3))
	expect("it leads no more", "t-0 3 true", state(3, 5, 30, box, 3))
	expect("the topic is deleted", "t-0 -1 false", mark("t", id(1)))
}
