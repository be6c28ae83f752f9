package node

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"cairn/engine/broker/catalog"
	"cairn/platform/vfs"
)

// A log directory that fails takes nobody's partitions away: the box goes on, says so, and others lead what it led.
func TestAFailedLogDirectoryHandsOn(t *testing.T) {
	s := newServers(t, 3)
	plan := vfs.NewPlan()
	for id, cfg := range s.configs {
		cfg.Kafka = &Kafka{Listen: s.reserve(), Settings: map[string]string{"offsets.topic.num.partitions": "2"}}
		s.configs[id] = cfg
		s.disks[id] = vfs.NewPlan()
	}
	s.disks[1] = plan
	for id := range s.configs {
		s.open(id)
	}
	for id := range s.configs {
		s.ready(id)
	}
	s.eventually("three brokers", func() bool {
		return s.each(func(n *Node) bool { return n.broker.catalog.Current().BrokerCount() == 3 })
	})
	c := s.kafka()
	if _, err := kadm.NewClient(c).CreateTopic(context30(t), 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	leads := func(n *Node) (count int) {
		snapshot := n.broker.catalog.Current()
		topic := snapshot.Topic("t")
		if topic == nil {
			return -1
		}
		for _, p := range topic.Partitions {
			if snapshot.LeaderOf(p) == n.id.box {
				count++
			}
		}
		return count
	}
	s.eventually("each leads one", func() bool { return s.each(func(n *Node) bool { return leads(n) == 1 }) })
	produce(t, c, "t", 0, 30)
	epoch := s.nodes[1].broker.brokerEpoch.Load()

	plan.Arm(vfs.Fault{Ops: vfs.OpSync, Name: "topics/t-", Sticky: true})
	produce(t, c, "t", 30, 60)
	s.eventually("the others lead", func() bool {
		return leads(s.nodes[1]) == 0 && leads(s.nodes[2])+leads(s.nodes[3]) == 3
	})
	own := s.nodes[2].broker.catalog.Current().Broker(1)
	if s.nodes[1].Failed() != nil || own == nil || own.Epoch != epoch || own.HasDirectory(catalog.UUID(s.nodes[1].broker.dir.ID())) {
		t.Errorf("the box has failed: %v; it is registered as %+v", s.nodes[1].Failed(), own)
	}
}
