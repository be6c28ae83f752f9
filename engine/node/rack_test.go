package node

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/broker/replica"
	"cairn/engine/broker/settings"
)

// A consumer reads from the replica in its rack (KIP-392), and waits there for more.
func TestConsumersReadNearby(t *testing.T) {
	s := threeBrokersWith(t, func(id uint64) map[string]string {
		return map[string]string{"broker.rack": fmt.Sprint("rack", id), "replica.selector.class": settings.RackAwareSelector}
	})
	producer := s.kafka()
	if _, err := kadm.NewClient(producer).CreateTopic(t.Context(), 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce(t, producer, "t", 0, 300)
	s.whole("t")
	replicaOf := func(id uint64, p int) *replica.Replica {
		r, err := s.nodes[id].broker.topics.Lookup("t", int32(p))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	sent := func(id uint64) (bytes int64) {
		for p := range 3 {
			bytes += replicaOf(id, p).Counts().ReadBytes
		}
		return bytes
	}
	consumer := s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Rack("rack2"))
	consumeAll(t, consumer, 300)
	if sent(2) == 0 || sent(1) != 0 || sent(3) != 0 {
		t.Errorf("a consumer in rack 2 was sent %d, %d and %d bytes by the boxes of racks 1 to 3", sent(1), sent(2), sent(3))
	}
	produce(t, producer, "t", 300, 30) // what comes while it waits at a follower
	consumeAll(t, consumer, 30)
	if sent(2) == 0 || sent(1) != 0 || sent(3) != 0 {
		t.Errorf("then it was sent %d, %d and %d bytes", sent(1), sent(2), sent(3))
	}
	var before [4][3]int64
	for id := range s.nodes {
		for p := range 3 {
			before[id][p] = replicaOf(id, p).Counts().ReadBytes
		}
	}
	elsewhere := s.kafka(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Rack("rack9"))
	consumeAll(t, elsewhere, 330)
	for id := range s.nodes { // a box that was late once may lead nothing now
		for p := range 3 {
			r := replicaOf(id, p)
			if bytes := r.Counts().ReadBytes - before[id][p]; (bytes > 0) != r.View().Leader {
				t.Errorf("a consumer of no box's rack was sent %d bytes of partition %d by box %d, which leads it: %v", bytes, p, id, r.View().Leader)
			}
		}
	}
}
