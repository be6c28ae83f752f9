package fetcher

import (
	"cmp"
	"slices"
	"time"

	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// NoLeader as the leader of a replica means that it follows nobody.
const NoLeader int32 = -1

// Config is how a box follows.
type Config struct {
	// BrokerID is this box's broker.
	BrokerID int32
	// BytesMax bounds the records of one answer, in bytes (replica.fetch.response.max.bytes). Default 1 MiB.
	BytesMax int
	// WaitMax is how long a leader that has nothing new may keep a question; while something here is not known to be
	// acknowledged it is WaitPending. Default 5 s, and 500 ms (replica.fetch.wait.max.ms).
	WaitMax, WaitPending time.Duration
	// Backoff is the pause after an error (replica.fetch.backoff.ms), and TellInterval the time after which a voucher is said
	// again that has had no effect, or may have had none. Default 200 ms and 1 s.
	Backoff, TellInterval time.Duration
}

// Deps is the outside of the room.
type Deps struct {
	Runtime  mailbox.Runtime
	Observer *observe.Observer
	Leaders  Leaders
	// Throttled gives the rate in bytes a second at which a partition is copied at most while this box is not in sync with it; ok
	// is false where nothing bounds it (follower.replication.throttled.replicas). Nil where nothing is bounded.
	Throttled func(topic string, partition int32) (rate int64, ok bool)
}

// throttledBytesMin is the least that is asked for in one question with throttled partitions: the others in it must not starve.
const throttledBytesMin = 64 << 10

// Leaders carries questions and vouchers to other boxes' brokers.
type Leaders interface {
	// Fetch asks a broker. done is called exactly once, from any goroutine, and only posts. A question that is not whole and
	// whose predecessor was not carried is refused. Partitions about which there is nothing new may be missing in the answer, which
	// has those that the broker refuses with their Err; its bytes are the caller's. A question that is put while the broker keeps
	// another has that one answered at once; there are at most two, answered in their order. All that is said of two questions holds
	// for those with Behind and for the others, each by itself: neither waits for the other kind.
	Fetch(broker int32, q Question, done func([]Answer, error))
	// Vouch tells a broker how far this box vouches. It does not block, and may be lost.
	Vouch(broker int32, vouchers []Voucher)
}

// Question is about all partitions that this box follows a broker in and that are ready for more: those that it is in sync in, or
// with Behind the others. It says what has changed since the one before of its kind, so that its size and its cost do not depend on
// the partitions that are idle.
type Question struct {
	// Whole says that Parts is everything: what was asked before is forgotten. The first question is whole, and the one after
	// an error.
	Whole bool
	// Gone are not asked about any more, and Parts are, from where they say. What is in both is in Parts.
	Gone     []Key
	Parts    []Part
	Behind   bool
	Wait     time.Duration // how long the broker may keep it when there is nothing
	BytesMax int
}

// Key names a partition.
type Key struct {
	Topic     seglog.ID
	Partition int32
}

// Compare orders keys by topic id, then partition.
func (k Key) Compare(o Key) int {
	return cmp.Or(slices.Compare(k.Topic[:], o.Topic[:]), cmp.Compare(k.Partition, o.Partition))
}

// Part is one partition, and where this box's log of it ends.
type Part struct {
	Topic     seglog.ID
	Partition int32
	replica.Position
	// LeadStart is where the leader's log begins, as far as this box was told in this epoch; -1 where it was not. A leader whose log
	// begins elsewhere answers at once.
	LeadStart int64
}

// Answer is what a leader has for a Part.
type Answer struct {
	Part
	// Err is why the broker refuses, nil where it answers.
	Err error
	replica.Answer
	Batches []byte
}

// Voucher says that this box has everything before Offset on stable storage, of what the broker leads in Epoch.
type Voucher struct {
	Topic     seglog.ID
	Partition int32
	Member    partition.Member
	Epoch     int32
	Offset    int64
}

// Fetcher is the owner.
type Fetcher struct {
	box *mailbox.Mailbox[message]
}

// New starts the owner, which follows nothing yet.
func New(cfg Config, deps Deps) *Fetcher {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&cfg.WaitMax, 5*time.Second)
	set(&cfg.WaitPending, 500*time.Millisecond)
	set(&cfg.Backoff, 200*time.Millisecond)
	set(&cfg.TellInterval, time.Second)
	if cfg.BytesMax <= 0 {
		cfg.BytesMax = 1 << 20
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	f := &Fetcher{}
	o := newOwner(cfg, deps)
	f.box = mailbox.New[message](deps.Runtime, "fetcher", 1<<16, o)
	o.post = f.box.Post
	return f
}

// Registered says under which broker epoch this box is registered now; 0 while it is not. Vouchers go out under it.
func (f *Fetcher) Registered(brokerEpoch int64) {
	f.box.Post(message{kind: msgRegistered, brokerEpoch: brokerEpoch})
}

// Follow has a replica follow a leader, or nobody. inSync says whether the catalog counts it among those in sync. The replica
// has been told to resign before.
func (f *Fetcher) Follow(r *replica.Replica, leader int32, inSync bool) {
	f.box.Post(message{kind: msgFollow, replica: r, leader: leader, inSync: inSync})
}

// Vouched says that a follower may vouch for more: replica.Deps.Vouched.
func (f *Fetcher) Vouched(r *replica.Replica) { f.box.Post(message{kind: msgVouched, replica: r}) }

// Close ends the owner. What is on its way is not waited for.
func (f *Fetcher) Close() { f.box.Close() }
