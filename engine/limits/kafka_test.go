package limits

import "testing"

func TestKafkaRelationsHold(t *testing.T) {
	for _, memory := range []uint64{MemoryMin, 100 << 20, 256 << 20, 1 << 30, 16 << 30, 1 << 40} {
		k := deriveKafka(memory)
		if err := k.check(memory); err != nil {
			t.Errorf("%d MiB: %v", memory>>20, err)
		}
		if err := Derive(memory).Check(); err != nil {
			t.Error(err)
		}
		if k.FrameBytesMax < 2<<20 {
			t.Errorf("%d MiB: requests of %d bytes cannot hold one of Kafka's default batches and its neighbours", memory>>20, k.FrameBytesMax)
		}
	}
	for name, spoil := range map[string]func(*Kafka){
		"frame larger than all":   func(k *Kafka) { k.FrameBytesMax = int(k.RequestBytesMax) },
		"control frame too large": func(k *Kafka) { k.ControlFrameBytesMax = k.FrameBytesMax + 1 },
		"all the memory":          func(k *Kafka) { k.RequestBytesMax = 1 << 30 },
		"no connections":          func(k *Kafka) { k.ConnectionsMax = 0 },
		"too many connections":    func(k *Kafka) { k.ConnectionsMax = 1 << 20 },
		"no pipeline":             func(k *Kafka) { k.PipelineMax = 0 },
		"no follower":             func(k *Kafka) { k.FollowSessionsMax = 0 },
		"no patience":             func(k *Kafka) { k.StallTimeout = 0 },
	} {
		k := deriveKafka(1 << 30)
		spoil(&k)
		if k.check(1<<30) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	l := Derive(1 << 30)
	l.Kafka.FollowSessionPartitionsMax = 3 * l.Storage.PartitionsMax
	if l.Check() == nil {
		t.Error("partitions that their followers have no session for: accepted")
	}
}
