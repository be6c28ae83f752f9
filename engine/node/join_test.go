package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/ensemble"
)

// joined configures box id as one of several that name each other's addresses.
func (s *servers) joined(id int, addresses ...string) {
	s.t.Helper()
	cfg, known := s.configs[uint64(id)]
	if !known {
		cfg = testConfig(filepath.Join(s.dir, fmt.Sprint(id)))
		cfg.Kafka, cfg.ZooKeeper.Listen = &Kafka{Listen: s.reserve()}, s.reserve()
	}
	cfg.Ensemble = nil
	if len(addresses) > 0 {
		var err error
		if cfg.Ensemble, err = EnsembleJoined(addresses, id, addresses[id-1]); err != nil {
			s.t.Fatal(err)
		}
	}
	s.configs[uint64(id)] = cfg
}

func (s *servers) cluster(id uint64) ensemble.Cluster {
	s.t.Helper()
	got := make(chan ensemble.Cluster, 1)
	s.nodes[id].ensemble.Cluster(func(c ensemble.Cluster, _ error) { got <- c })
	return <-got
}

// A box that was alone becomes the first of a cluster and keeps what it has; the second listens, and the third makes both vote.
// Then any one of them may go.
func TestBoxesJoinByThemselves(t *testing.T) {
	s := newServers(t, 0)
	a, b, c, d := s.reserve(), s.reserve(), s.reserve(), s.reserve()
	s.joined(1)
	s.open(1)
	s.ready(1)
	produce(t, s.kafka(kgo.AllowAutoTopicCreation()), "t", 0, 20)
	restart := func() {
		t.Helper()
		if err := s.nodes[1].Close(); err != nil {
			t.Fatal(err)
		}
		s.open(1)
		s.ready(1)
	}
	s.joined(1, a, b)
	restart()
	s.joined(2, a, b)
	s.open(2)
	s.ready(2)
	s.eventually("the second box listens", func() bool {
		m := s.cluster(1).Members
		return len(m) == 2 && m[0].State == "leader" && m[1].State == "observer" && m[1].Alive
	})
	s.joined(3, a, b, c)
	s.open(3)
	s.ready(3)
	s.eventually("three boxes vote", func() bool {
		voters := 0
		for _, m := range s.cluster(1).Members {
			if m.State == "leader" || m.State == "follower" {
				voters++
			}
		}
		return voters == 3
	})
	s.joined(4, a, b, c, d)
	s.open(4)
	s.ready(4)
	s.eventually("the fourth listens", func() bool {
		m := s.cluster(4).Members
		return len(m) == 4 && m[3].State == "observer"
	})

	client := s.kafka()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, nil, "three"); err != nil {
		t.Fatal(err)
	}
	gone := s.leader()
	if gone != 1 {
		t.Fatalf("box %d leads though box 1 did not go", gone)
	}
	produce(t, client, "three", 0, 20)
	consumeAll(t, s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 20)
	if err := s.nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	delete(s.nodes, 1)
	produce(t, s.kafka(), "three", 20, 20)
}

func TestJoinedAddresses(t *testing.T) {
	for n, voters := range map[int][]uint64{1: {1}, 2: {1}, 3: {1, 2, 3}, 4: {1, 2, 3}, 5: {1, 2, 3, 4, 5}, 6: {1, 2, 3, 4, 5}} {
		var addresses []string
		for i := range n {
			addresses = append(addresses, fmt.Sprintf("b%d.lan:9601", i))
		}
		e, err := EnsembleJoined(addresses, n, ":9601")
		if err != nil || !slices.Equal(e.Voters, voters) || len(e.Voters)+len(e.Learners) != n || len(e.Peers) != n-1 {
			t.Errorf("%d boxes: %+v, %v", n, e, err)
		}
	}
	for _, bad := range [][]string{{"a"}, {":1"}, {"a:0"}, {"a:70000"}, {"a:1", "a:1"}} {
		if _, err := EnsembleJoined(bad, 1, ":1"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
