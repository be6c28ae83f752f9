package limits

import (
	"fmt"
	"time"
)

// Kafka are the maxima of the Kafka listeners.
type Kafka struct {
	// FrameBytesMax is the longest request in bytes (socket.request.max.bytes). A longer one ends its connection before
	// anything is allocated for it.
	FrameBytesMax int
	// ControlFrameBytesMax is the same for everything but Produce, whose bytes are records: the answer to another request,
	// and what it takes to make it, may be many times the request.
	ControlFrameBytesMax int
	// ProducePartitionsMax is how many partitions one Produce may name.
	ProducePartitionsMax int
	// FrameBytesBeforeLoginMax is the same for a connection that has yet to log in (sasl.server.max.receive.size).
	FrameBytesBeforeLoginMax int
	// ConnectionsMax is how many connections all listeners hold; the next one is closed at once (max.connections).
	ConnectionsMax int
	// ConnectionsPerAddressMax is the same for one client address (max.connections.per.ip).
	ConnectionsPerAddressMax int
	// RequestBytesMax bounds requests in hand and answers not yet sent, over all connections, in bytes: the frames, what
	// they decode into, and encoded answers. While it is used up no connection is read (queued.max.request.bytes).
	RequestBytesMax int64
	// RequestBytesPerConnectionMax bounds the frames of pipelined requests of one connection, in bytes. One request is
	// always let in.
	RequestBytesPerConnectionMax int64
	// PipelineMax is how many Produce requests of one connection are in hand at a time. Clients send five.
	PipelineMax int
	// BulkyMax is how many requests whose answers may be as large as the box's state are handled at a time.
	BulkyMax int
	// FetchSessionsMax is how many incremental fetch sessions of clients are kept (max.incremental.fetch.session.cache.slots).
	// A client that gets none fetches without one.
	FetchSessionsMax int
	// FetchSessionPartitionsMax bounds the partitions of all these sessions together.
	FetchSessionPartitionsMax int
	// FollowSessionsMax is how many fetch sessions of other boxes are kept, beside those of clients: each box has two, and may have
	// two more for a moment when its connections were lost. A box that gets none copies nothing.
	FollowSessionsMax int
	// FollowSessionPartitionsMax bounds the partitions of all these sessions together.
	FollowSessionPartitionsMax int
	// FetchPartitionsMax is how many partitions of one client's Fetch may wait for records; those beyond it are looked at only
	// when the request is answered.
	FetchPartitionsMax int
	// OpenBatchBytesMax bounds what a compressed batch may unpack to where a topic asks for its records to be checked, in bytes.
	OpenBatchBytesMax int
	// FrameTimeout is how long the bytes of one frame may take to arrive, plus a second for each FrameRateMin bytes.
	FrameTimeout time.Duration
	// FrameRateMin is the slowest sender that is put up with, in bytes a second.
	FrameRateMin int
	// StallTimeout is how long a client may take no byte of an answer before it is disconnected.
	StallTimeout time.Duration
}

func deriveKafka(memory uint64) Kafka {
	requests := int64(memory / 4)
	return Kafka{
		FrameBytesMax:                int(clamp(requests/5, 1<<20, 100<<20)),
		ControlFrameBytesMax:         int(clamp(requests/32, 256<<10, 8<<20)),
		ProducePartitionsMax:         10_000,
		FrameBytesBeforeLoginMax:     512 << 10,
		ConnectionsMax:               int(clamp(memory/(64<<10), 256, 20_000)),
		ConnectionsPerAddressMax:     int(clamp(memory/(64<<10), 256, 20_000)),
		RequestBytesMax:              requests,
		RequestBytesPerConnectionMax: clamp(requests/4, 1<<20, 64<<20),
		PipelineMax:                  128,
		BulkyMax:                     4,
		FetchSessionsMax:             1000,
		FetchSessionPartitionsMax:    int(clamp(memory/(4<<10), 10_000, 500_000)),
		FollowSessionsMax:            1024,
		FollowSessionPartitionsMax:   int(clamp(memory/(8<<10), 5000, 500_000)),
		FetchPartitionsMax:           10_000,
		OpenBatchBytesMax:            int(clamp(memory/16, 4<<20, 128<<20)),
		FrameTimeout:                 30 * time.Second,
		FrameRateMin:                 16 << 10,
		StallTimeout:                 30 * time.Second,
	}
}

func (k Kafka) check(memory uint64) error {
	switch {
	case k.RequestBytesMax < 1 || uint64(k.RequestBytesMax) > memory/2:
		return fmt.Errorf("%d bytes of Kafka requests may fill the memory", k.RequestBytesMax)
	case int64(k.FrameBytesMax)*5 > k.RequestBytesMax+4<<20:
		return fmt.Errorf("one Kafka request of %d bytes, decoded, is more than the %d for all", k.FrameBytesMax, k.RequestBytesMax)
	case k.FrameBytesMax < 64<<10:
		return fmt.Errorf("Kafka requests of at most %d bytes are too short for clients", k.FrameBytesMax)
	case k.ControlFrameBytesMax < 64<<10 || k.ControlFrameBytesMax > k.FrameBytesMax || int64(k.ControlFrameBytesMax)*20 > k.RequestBytesMax:
		return fmt.Errorf("Kafka requests of %d bytes without records, %d with, %d for all", k.ControlFrameBytesMax, k.FrameBytesMax, k.RequestBytesMax)
	case k.RequestBytesPerConnectionMax < 1 || k.RequestBytesPerConnectionMax > k.RequestBytesMax:
		return fmt.Errorf("%d bytes of requests of one connection, %d of all", k.RequestBytesPerConnectionMax, k.RequestBytesMax)
	case k.ConnectionsMax < 1 || k.ConnectionsPerAddressMax < 1 || k.ConnectionsPerAddressMax > k.ConnectionsMax:
		return fmt.Errorf("%d Kafka connections, %d from one address", k.ConnectionsMax, k.ConnectionsPerAddressMax)
	case uint64(k.ConnectionsMax)*(12<<10) > memory/2:
		return fmt.Errorf("%d Kafka connections may fill the memory", k.ConnectionsMax)
	case k.PipelineMax < 1 || k.BulkyMax < 1 || k.FetchSessionsMax < 0 || k.FetchPartitionsMax < 1 || k.ProducePartitionsMax < 1:
		return fmt.Errorf("pipeline %d, bulky requests %d, fetch sessions %d, fetched partitions %d",
			k.PipelineMax, k.BulkyMax, k.FetchSessionsMax, k.FetchPartitionsMax)
	case k.FollowSessionsMax < 1 || k.FollowSessionPartitionsMax < 1:
		return fmt.Errorf("%d fetch sessions of other boxes, %d partitions in them must be positive", k.FollowSessionsMax, k.FollowSessionPartitionsMax)
	case k.FrameTimeout <= 0 || k.FrameRateMin < 1 || k.StallTimeout <= 0:
		return fmt.Errorf("Kafka timeouts %v, %d bytes/s, %v must be positive", k.FrameTimeout, k.FrameRateMin, k.StallTimeout)
	}
	return nil
}
