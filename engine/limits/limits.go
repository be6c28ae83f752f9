package limits

import "fmt"

// Limits are the maxima of one box.
type Limits struct {
	// Memory is the bytes that the process may use in all; the rest is derived from it.
	Memory uint64
	// GarbageBytesMax is about how much garbage may gather between two collections, in bytes, where that is more than a
	// fifth of what is alive. A larger bound costs memory, a smaller one processor time.
	GarbageBytesMax uint64

	Kafka     Kafka
	ZooKeeper ZooKeeper
	Storage   Storage
	Group     Group
}

// MemoryMin is the least memory that a box is laid out for. A box with less is given this and may be killed by its
// kernel; the start says so.
const MemoryMin = 64 << 20

// Derive lays out the maxima for a process that may use memory bytes.
func Derive(memory uint64) Limits {
	memory = max(memory, MemoryMin)
	return Limits{
		Memory:          memory,
		GarbageBytesMax: clamp(memory/16, 8<<20, 48<<20),

		Kafka:     deriveKafka(memory),
		ZooKeeper: deriveZooKeeper(memory),
		Storage:   deriveStorage(memory),
		Group:     deriveGroup(memory),
	}
}

// Check reports the first relation between the maxima that does not hold. A change of one limit that breaks another
// is found here and not by a crash.
func (l Limits) Check() error {
	if l.GarbageBytesMax < 4<<20 || l.GarbageBytesMax > l.Memory/4 {
		return fmt.Errorf("limits for %d MiB of memory: %d bytes of garbage", l.Memory>>20, l.GarbageBytesMax)
	}
	for _, check := range []func(uint64) error{l.Kafka.check, l.ZooKeeper.check, l.Storage.check, l.Group.check} {
		if err := check(l.Memory); err != nil {
			return fmt.Errorf("limits for %d MiB of memory: %w", l.Memory>>20, err)
		}
	}
	if l.Kafka.FollowSessionPartitionsMax < followersMin*l.Storage.PartitionsMax {
		return fmt.Errorf("limits for %d MiB of memory: other boxes follow at most %d partitions here, of %d that this one may lead",
			l.Memory>>20, l.Kafka.FollowSessionPartitionsMax, l.Storage.PartitionsMax)
	}
	return nil
}

// followersMin is how many others must be able to follow all partitions that a box may lead.
const followersMin = 4

// clamp is v, but at least low and at most high.
func clamp[T int | int64 | uint64](v, low, high T) T { return min(max(v, low), high) }
