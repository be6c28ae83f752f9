package topics

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// Errors of Lookup.
var (
	// ErrUnknown means that this box holds no such partition, as far as it has applied the catalog.
	ErrUnknown = errors.New("no such partition on this box")
	// ErrOpening means that the partition is being opened; a moment later it is there.
	ErrOpening = errors.New("partition is being opened")
	// ErrOffline means that the partition's log directory is missing or has failed, or its log is damaged.
	ErrOffline = errors.New("partition is offline on this box")
)

// Config is how a box tends its topics.
type Config struct {
	BrokerID int32
	// Incarnation is what this start of the box registers with. Until the catalog shows it nothing is led: the
	// registration that it shows before is the last start's.
	Incarnation catalog.UUID
	// RetentionInterval is log.retention.check.interval.ms. Default 5 minutes.
	RetentionInterval time.Duration
	// CheckpointInterval is how soon after a high watermark moved the checkpoints are written
	// (replica.high.watermark.checkpoint.interval.ms). Default 5 seconds. Nothing is written while nothing moves.
	CheckpointInterval time.Duration
	// OpensMax is how many partitions are opened at the same time. Default 4.
	OpensMax int
	// PartitionsMax bounds the partitions of the box.
	PartitionsMax int
	// Log is the part of a partition's log settings that no topic setting decides.
	Log seglog.Config
	// ProducersMax bounds the producer ids of one partition.
	ProducersMax int
	// CompactMapBytesMax and OpenBatchBytesMax bound the memory of a compaction, in bytes: its map of keys, and what one
	// batch may unpack to. Defaults 1 MiB and 8 MiB.
	CompactMapBytesMax int64
	OpenBatchBytesMax  int
}

// Deps is the outside of the room.
type Deps struct {
	Runtime  mailbox.Runtime
	Observer *observe.Observer
	Catalog  *catalog.Catalog
	Dirs     []*seglog.Dir
	Shards   *replica.Shards
	// GoodClock says whether the wall clock is known to be right; without it time removes nothing.
	GoodClock func(clock.Now) bool
	// Led is told, on the owner's goroutine, when this box begins to lead a partition or ends it; it only posts.
	Led func(r *replica.Replica, leader bool, epoch int32)
	// Follow is told, on the owner's goroutine, which broker an open partition follows from now on, NoLeader for none, and
	// whether this box counts among those in sync; it only posts. The replica was told of the leader's epoch before. Nil
	// where nobody follows.
	Follow func(r *replica.Replica, leader int32, inSync bool)
	// Offline is told, on the owner's goroutine, which partitions this box holds and cannot serve, by topic, whenever that has changed: not
	// those of a log directory that has failed or is not there. It only posts, and keeps the map. Nil where nobody asks.
	Offline func(map[catalog.UUID][]int32)
	// Opened is called once, when everything that the catalog gave this box at Start is open or offline. The node then
	// registers the broker: a leader is elected by what its log holds.
	Opened func()
}

// Topics is the owner.
type Topics struct {
	box     *mailbox.Mailbox[message]
	table   table
	catalog *catalog.Catalog
	broker  int32

	closing sync.Once
	result  error // of Close
}

// table is what Lookup reads.
type table struct {
	mu     sync.RWMutex // protects topics; a leaf: nothing is called while it is held
	topics map[string][]entry
}

// entry is one partition as Lookup shows it.
type entry struct {
	replica *replica.Replica
	err     error // ErrOpening, ErrOffline
}

func (t *table) set(topic string, partition int32, e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.topics[topic]
	for int(partition) >= len(list) {
		list = append(list, entry{})
	}
	list[partition] = e
	t.topics[topic] = list
}

func (t *table) remove(topic string, partition int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.topics[topic]
	if int(partition) >= len(list) {
		return
	}
	list[partition] = entry{}
	for _, e := range list {
		if e != (entry{}) {
			return
		}
	}
	delete(t.topics, topic)
}

// New makes the owner. It follows the catalog at once and acts from Start on.
func New(cfg Config, deps Deps) *Topics {
	if cfg.RetentionInterval <= 0 {
		cfg.RetentionInterval = 5 * time.Minute
	}
	if cfg.CheckpointInterval <= 0 {
		cfg.CheckpointInterval = 5 * time.Second
	}
	if cfg.CompactMapBytesMax <= 0 {
		cfg.CompactMapBytesMax = 1 << 20
	}
	if cfg.OpenBatchBytesMax <= 0 {
		cfg.OpenBatchBytesMax = 8 << 20
	}
	if cfg.OpensMax <= 0 {
		cfg.OpensMax = 4
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	t := &Topics{table: table{topics: make(map[string][]entry)}, catalog: deps.Catalog, broker: cfg.BrokerID}
	o := newOwner(cfg, deps, &t.table)
	t.box = mailbox.New[message](deps.Runtime, "topics", 1<<16, o)
	o.box = t.box
	deps.Catalog.OnChange(func(_, _ *catalog.Snapshot) { t.box.Post(message{kind: msgCatalog}) })
	return t
}

// Start lets the owner act on the catalog, which must have applied a read index taken after this box started.
func (t *Topics) Start() { t.box.Post(message{kind: msgStart}) }

// Settled calls done once every partition that the catalog gives this box to lead is led, or offline. done only posts.
func (t *Topics) Settled(done func()) { t.box.Post(message{kind: msgSettled, settled: done}) }

// Dropped calls done once no partition of the topic is here any more. done only posts.
func (t *Topics) Dropped(topic catalog.UUID, done func()) {
	t.box.Post(message{kind: msgDropped, topic: topic, settled: done})
}

// SweepDue says that a log directory has files to unlink; it only posts.
func (t *Topics) SweepDue() {
	t.box.Post(message{kind: msgRemoved, removed: seglog.Removed{Segments: 1}})
}

// Failed says that a replica has become unusable; the shards call it.
func (t *Topics) Failed(r *replica.Replica) { t.box.Post(message{kind: msgFailed, replica: r}) }

// Moved says that high watermarks have moved; the shards call it.
func (t *Topics) Moved() { t.box.Post(message{kind: msgMoved}) }

// Lookup finds a partition that is open here. It allocates nothing.
func (t *Topics) Lookup(topic string, partition int32) (*replica.Replica, error) {
	t.table.mu.RLock()
	defer t.table.mu.RUnlock()
	list := t.table.topics[topic]
	if partition < 0 || int(partition) >= len(list) || list[partition] == (entry{}) {
		return nil, ErrUnknown
	}
	return list[partition].replica, list[partition].err
}

// All calls f for every partition that is open here, in no order. f must not call back into the room.
func (t *Topics) All(f func(*replica.Replica)) {
	t.table.mu.RLock()
	defer t.table.mu.RUnlock()
	for _, list := range t.table.topics {
		for _, e := range list {
			if e.replica != nil {
				f(e.replica)
			}
		}
	}
}

// Close closes every partition cleanly and then the owner. It returns the errors of logs that could not be closed.
// Closing twice is allowed.
func (t *Topics) Close() error {
	t.closing.Do(func() {
		result := make(chan error, 1)
		t.stop(func(err error) { result <- err })
		if err := <-result; err != nil {
			t.result = fmt.Errorf("close topics: %w", err)
		}
		t.box.Close()
	})
	return t.result
}

// stop asks the owner to close every partition; stopped is called once when they are, on the owner's goroutine.
func (t *Topics) stop(stopped func(error)) { t.box.Post(message{kind: msgStop, stopped: stopped}) }
