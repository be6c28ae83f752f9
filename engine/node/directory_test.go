package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/broker/catalog"
	"cairn/platform/vfs"
)

// A log directory that fails takes nobody's partitions away: the box goes on, says so, and others lead what it led.
func TestAFailedLogDirectoryHandsOn(t *testing.T) {
	s := newServers(t, 3)
	for id, cfg := range s.configs {
		cfg.Kafka = &Kafka{Listen: s.reserve(), Settings: map[string]string{"offsets.topic.num.partitions": "2"}}
		s.configs[id] = cfg
		s.disks[id] = vfs.NewPlan()
	}
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
	leader := func(n *Node, partition int) int32 {
		snapshot := n.broker.catalog.Current()
		topic := snapshot.Topic("t")
		if topic == nil {
			return catalog.NoLeader
		}
		return snapshot.LeaderOf(topic.Partitions[partition])
	}
	s.eventually("all have leaders", func() bool {
		return s.each(func(n *Node) bool {
			return leader(n, 0) != catalog.NoLeader && leader(n, 1) != catalog.NoLeader && leader(n, 2) != catalog.NoLeader
		})
	})
	produce(t, c, "t", 0, 30)

	box := uint64(leader(s.nodes[1], 0))
	other := s.nodes[box%3+1]
	epoch := s.nodes[box].broker.brokerEpoch.Load()
	s.disks[box].Arm(vfs.Fault{Ops: vfs.OpSync, Name: "topics/t-", Sticky: true})
	produce(t, c, "t", 30, 60)
	s.eventually("the others lead", func() bool {
		for partition := range 3 {
			if l := leader(other, partition); l == catalog.NoLeader || l == int32(box) {
				return false
			}
		}
		return true
	})
	own := other.broker.catalog.Current().Broker(int32(box))
	if s.nodes[box].Failed() != nil || own == nil || own.Epoch != epoch || own.HasDirectory(catalog.UUID(s.nodes[box].broker.opened()[0].ID())) {
		t.Errorf("the box has failed: %v; it is registered as %+v", s.nodes[box].Failed(), own)
	}
}

// A replica whose log is lost while its box is down does not lead and is not in sync, however the boxes come back: another leads, and it
// begins anew from there by itself.
func TestALostReplicaBeginsAnew(t *testing.T) {
	s := threeBrokers(t)
	c := s.kafka()
	if _, err := kadm.NewClient(c).CreateTopic(context30(t), 1, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, c, "t", 0, 100)
	s.whole("t")
	c.Close()
	box := uint64(s.nodes[1].broker.catalog.Current().Topic("t").Partition(0).Leader)
	for id := range s.configs {
		s.stop(id)
	}
	if err := os.RemoveAll(filepath.Join(s.configs[box].Data, "topics", "t-0")); err != nil {
		t.Fatal(err)
	}
	for id := range s.configs {
		s.open(id)
	}
	for id := range s.configs {
		s.ready(id)
	}
	s.whole("t")
	consumeAll(t, s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 100)
}

// Partitions are spread over the log directories of a box. Without one of them the box starts, the partitions of the others are there, and
// its own are offline and not made empty; when it is back they are whole.
func TestSeveralLogDirectories(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	cfg := testConfig(filepath.Join(root, "data"))
	cfg.Kafka.Settings["log.dirs"] = a + ", " + b
	n := open(t, cfg)
	c := kafkaClient(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	ctx := context30(t)
	if _, err := kadm.NewClient(c).CreateTopic(ctx, 4, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: int32(i % 4), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	held := func(dir string) (names []string) {
		names, err := filepath.Glob(filepath.Join(dir, "t-*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if len(held(a)) != 2 || len(held(b)) != 2 {
		t.Fatalf("%v and %v", held(a), held(b))
	}
	dirs, err := kadm.NewClient(c).DescribeAllLogDirs(ctx, nil)
	if err != nil || len(dirs[1]) != 2 || len(dirs[1][a].Topics["t"]) != 2 {
		t.Errorf("described as %+v, %v", dirs, err)
	}
	c.Close()
	closeNode(t, n)

	away := filepath.Join(root, "away")
	if err := os.Rename(b, away); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	c = kafkaClient(t, n)
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, "t")
	if err == nil {
		t.Error("all partitions have a leader")
	}
	whole := 0
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset == 10 {
			whole++
		} else if o.Err == nil {
			t.Errorf("partition %d ends at %d", o.Partition, o.Offset)
		}
	})
	if whole != 2 || len(held(b)) != 0 {
		t.Errorf("%d partitions are whole, %v are made anew", whole, held(b))
	}
	c.Close()
	closeNode(t, n)

	if err := os.RemoveAll(b); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, b); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	consumeAll(t, kafkaClient(t, n, kgo.ConsumeTopics("t")), 40)
	closeNode(t, n)
}

func TestLogDirectoriesThatCannotBe(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dirs, says string }{
		{"relative", "not an absolute path"},
		{root + "/a," + root + "/a", "are one"},
		{root + "/a," + root + "/a/b", "one is in the other"},
		{file, "file"},
		{file + "," + file + "2/x", ""}, // the second is made
	} {
		cfg := testConfig(filepath.Join(root, "data"))
		cfg.Kafka.Settings["log.dirs"] = c.dirs
		n, err := Open(cfg, testDeps())
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.dirs, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q in it", c.dirs, err, c.says)
		}
		if err == nil {
			closeNode(t, n)
		}
	}
}

// The cluster is told how much of the space for logs is used, and again when that has changed.
func TestTheSpaceForLogsIsTold(t *testing.T) {
	s := threeBrokers(t)
	b := s.nodes[2].broker
	told := func(tenths int) {
		t.Helper()
		s.eventually(fmt.Sprint(tenths, " tenths are used"), func() bool {
			return s.each(func(n *Node) bool {
				r := n.broker.catalog.Current().Broker(2)
				return r != nil && r.UsedTenths == tenths && r.Epoch == b.brokerEpoch.Load()
			})
		})
	}
	told(0)
	b.usedTenths.Store(7) // as lookAtSpace finds out
	b.tellDirectories(b.catalog.Current())
	told(7)
	b.lookAtSpace() // the disk of this test is not as full
	b.tellDirectories(b.catalog.Current())
	told(0)
}
