package node

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
)

// rebalance asks a box's HTTP door how it stands.
func (s *servers) rebalance(id uint64) (got controller.RebalanceStatus) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.nodes[id].Addresses()["http"].String() + "/rebalance")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("box %d: %s: %s", id, resp.Status, b)
	}
	return got
}

func (s *servers) control(id uint64, what string) {
	s.t.Helper()
	resp, err := http.Post("http://"+s.nodes[id].Addresses()["http"].String()+"/rebalance/"+what, "application/json", strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		s.t.Fatalf("box %d: %s: %s: %s", id, what, resp.Status, b)
	}
}

// What was made on two boxes grows to a third that joins, group offsets included, unless somebody has paused it; every box says
// how it stands, whichever is the controller's.
func TestTopicsGrowAsBoxesJoin(t *testing.T) {
	s := newServers(t, 3)
	for id, cfg := range s.configs {
		cfg.Kafka = &Kafka{Listen: s.reserve()}
		s.configs[id] = cfg
	}
	s.open(1)
	s.open(2)
	s.ready(1)
	s.ready(2)
	s.eventually("two brokers", func() bool {
		return s.each(func(n *Node) bool { return n.broker.catalog.Current().BrokerCount() == 2 })
	})
	producer := s.kafka()
	if _, err := kadm.NewClient(producer).CreateTopic(t.Context(), 4, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "t", 0, 200)
	replicas := func(want int) bool {
		for _, p := range s.nodes[1].broker.catalog.Current().Topic("t").Partitions {
			if len(p.Replicas) != want || len(p.ISR) != want || p.Reassigning() {
				return false
			}
		}
		return true
	}
	s.eventually("two replicas", func() bool { return replicas(2) })
	other := s.leader()%2 + 1 // not the controller's
	s.control(other, "pause")
	s.open(3)
	s.ready(3)
	s.eventually("it says what it would do", func() bool {
		for id := range s.nodes {
			got := s.rebalance(id)
			if !got.Paused || got.Waiting != 4 || len(got.Wanted) != 4 || got.Wanted[0].Why != "paused" || got.Wanted[0].Want != 3 {
				return false
			}
		}
		return true
	})
	if !replicas(2) {
		t.Error("it grows though it is paused")
	}
	s.control(3, "resume")
	s.eventually("three replicas", func() bool { return replicas(3) })
	s.whole("t")
	s.eventually("nothing is left to do", func() bool {
		got := s.rebalance(other)
		return !got.Paused && got.Moving == 0 && got.Waiting == 0
	})
	preferred := map[int32]bool{}
	for _, p := range s.nodes[1].broker.catalog.Current().Topic("t").Partitions {
		preferred[p.Replicas[0]] = true
	}
	if len(preferred) != 3 {
		t.Errorf("of three boxes, %v are to lead", preferred)
	}
	produce(t, producer, "t", 200, 100)
	s.whole("t")

	// Others may look and not change.
	resp, err := http.Get("http://" + s.nodes[1].Addresses()["http"].String() + "/rebalance/pause")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || s.nodes[1].broker.catalog.Current().Rebalance != (catalog.Rebalance{Exists: true}) {
		t.Errorf("GET pauses: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}
