package kafkaserver

import (
	"context"
	"net"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/observe"
)

// Deps is everything that the server needs of the rest of the box. All of it may be called from any goroutine.
type Deps struct {
	Clock    clock.Clock
	Observer *observe.Observer
	// Listen opens a listener: net.Listen in production, an in-memory one in the simulation.
	Listen func(network, address string) (net.Listener, error)

	Catalog     Catalog
	Replicas    Replicas
	ProducerIDs ProducerIDs
	AutoCreator AutoCreator
	LogDirs     LogDirs
	Groups      Groups
	Controller  Controller
	Configs     Configs
	// Settings returns the broker's settings as they are now; they change while running.
	Settings func() Settings
	// GoodClock says whether the wall clock is known to be right; without it no record is refused for its timestamp. Nil: it is.
	GoodClock func(clock.Now) bool
	// Recent calls done once the catalog shows all that was committed before the call, from any goroutine; it may take for ever
	// where the ensemble has no leader. Nil where the catalog always does.
	Recent func(done func(error))
	// Serving says whether this box hears the majority of the ensemble. One that does not may lead no more and not know it. Nil: it does.
	Serving func() bool
	// AwaitStarts calls done once, from any goroutine, when every other replica of the partitions, where its box is there or may lead
	// when it is back, has let go of what lies before those starts and has that on stable storage, or when the wait or ctx is over;
	// late says which have not. Nil where there are no others.
	AwaitStarts func(ctx context.Context, starts []LogStart, wait time.Duration, done func(late []bool))
	// SessionID draws the id of a new fetch session: any positive number that does not repeat soon.
	SessionID func() int32
}

// Settings are the broker's dynamic settings that the data path reads, under Kafka's names.
type Settings struct {
	AutoCreateTopics bool          // auto.create.topics.enable
	ConnectionsIdle  time.Duration // connections.max.idle.ms; 0 means never
	FetchMaxBytes    int           // fetch.max.bytes: the most that one Fetch answers
	RackAware        bool          // replica.selector.class: consumers are sent to replicas in their rack
}

// Catalog gives the state of the cluster as this box has applied it: *catalog.Catalog.
type Catalog interface {
	// Current returns an immutable snapshot, never nil. A handler takes one and answers from it alone.
	Current() *catalog.Snapshot
}

// Replicas finds this box's replicas.
type Replicas interface {
	// Lookup returns the local replica. The error is, or wraps, one of those in the error table: not a replica here,
	// still opening, its directory failed.
	Lookup(topic string, partition int32) (Replica, error)
}

// Replica is one partition's log on this box: *replica.Replica, which documents the methods.
type Replica interface {
	TopicID() seglog.ID
	View() *replica.View
	Append(ctx context.Context, a *replica.AppendRequest)
	Await(ctx context.Context, seen *replica.View, w *replica.Waiter)
	Sent(bytes int)
	DeleteRecords(ctx context.Context, offset int64, done func(logStart int64, err error))
	Producers(ctx context.Context, f func(*partition.Producers, error))
}

// LogStart is where a partition's log begins.
type LogStart struct {
	Topic     string
	Partition int32
	Offset    int64
}

// LocalReplicas makes Replicas of the topics room.
func LocalReplicas(t interface {
	Lookup(topic string, partition int32) (*replica.Replica, error)
}) Replicas {
	return localReplicas(t.Lookup)
}

type localReplicas func(topic string, partition int32) (*replica.Replica, error)

// Lookup keeps a nil *replica.Replica from becoming a Replica that is not nil.
func (f localReplicas) Lookup(topic string, partition int32) (Replica, error) {
	r, err := f(topic, partition)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// ProducerIDs gives out producer ids that nobody else gets, from blocks that the cluster gives to this box.
type ProducerIDs interface {
	// Next calls done once with a fresh id. It may take a round of agreement when a block is used up.
	Next(done func(id int64, err error))
}

// AutoCreator creates topics that clients ask Metadata for.
type AutoCreator interface {
	// AutoCreate starts the creation of a topic with the broker's defaults and does not wait for it. A topic that is
	// there or on its way is no error. It returns why a topic cannot be created, such as an invalid or colliding name.
	AutoCreate(topic string) error
}

// LogDirs describes the directories of this box.
type LogDirs interface {
	Describe() []LogDir
}

// LogDir is one log directory.
type LogDir struct {
	Path       string
	Err        error // why it failed; nil for a healthy one
	Replicas   []LogDirReplica
	TotalBytes int64 // of the device; -1 if unknown
	FreeBytes  int64 // of the device; -1 if unknown
}

// LogDirReplica is the size of one partition's log.
type LogDirReplica struct {
	Topic     string
	Partition int32
	Bytes     int64
	Lag       int64 // how far its end is behind the high watermark
}
