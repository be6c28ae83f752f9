package coordinator

import (
	"context"
	"slices"
	"time"

	"cairn/engine/broker/group"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Config is what does not change while the box runs.
type Config struct {
	Limits limits.Group
	// ExpireInterval is how often expired offsets are looked for (offsets.retention.check.interval.ms). Default 10 minutes.
	ExpireInterval time.Duration
}

// Deps is the outside of the room. The functions may be called from any goroutine.
type Deps struct {
	Runtime  mailbox.Runtime
	Observer *observe.Observer
	// Settings are the broker's group settings as they are now.
	Settings func() group.Settings
	// Partitions is the number of partitions of __consumer_offsets, 0 while there is no such topic.
	Partitions func() int32
	// GoodClock says whether the wall clock is known to be right; without it no offset expires.
	GoodClock func(clock.Now) bool
	// Unique draws a random UUID for a new member's id.
	Unique func() string
}

// Coordinator is the handle of the owner. Its methods may be called from any goroutine.
type Coordinator struct {
	deps Deps
	box  *mailbox.Mailbox[message]
}

// New makes a coordinator that leads nothing yet.
func New(cfg Config, deps Deps) *Coordinator {
	if cfg.ExpireInterval <= 0 {
		cfg.ExpireInterval = 10 * time.Minute
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	if deps.Settings == nil {
		deps.Settings = group.DefaultSettings
	}
	if deps.GoodClock == nil {
		deps.GoodClock = func(clock.Now) bool { return true }
	}
	c := &Coordinator{deps: deps}
	o := newOwner(cfg, deps)
	c.box = mailbox.New[message](deps.Runtime, "coordinator", cfg.Limits.MailboxMax, o)
	o.box = c.box
	return c
}

// Ask hands a request to its group. done is called exactly once with the answer, of the type that belongs to q, on the
// owner's goroutine or, when the request is refused, on the caller's; it must not block. q belongs to the coordinator
// from here on. Ask waits while the owner's queue is full and is meant for connection goroutines.
//
// Besides what the rules answer, a request may end with NOT_COORDINATOR (another box leads the group's partition),
// COORDINATOR_LOAD_IN_PROGRESS, or COORDINATOR_NOT_AVAILABLE (the append failed, too many wait, the box stops).
func (c *Coordinator) Ask(ctx context.Context, q group.Request, done func(group.Answer)) {
	partition := PartitionFor(q.GroupID(), c.deps.Partitions())
	if partition < 0 {
		done(refusal(q, kerr.NotCoordinator))
		return
	}
	if j, ok := q.(*group.Join); ok && j.MemberID == "" {
		j.Unique = c.deps.Unique()
	}
	if err := c.box.Put(ctx, message{kind: msgRequest, partition: partition, request: q, done: done}); err != nil {
		done(refusal(q, kerr.CoordinatorNotAvailable))
	}
}

// List calls done once with the groups of all partitions that this box leads, in one of the states, or in any if there
// are none. While a partition is being loaded it fails with COORDINATOR_LOAD_IN_PROGRESS.
func (c *Coordinator) List(ctx context.Context, states []string, done func([]group.Listed, *kerr.Error)) {
	m := message{kind: msgList, names: states, listed: done}
	if err := c.box.Put(ctx, m); err != nil {
		done(nil, kerr.CoordinatorNotAvailable)
	}
}

// Lead says that this box leads a partition of __consumer_offsets in epoch: its groups are loaded. Led again, in
// another epoch, it is loaded again.
func (c *Coordinator) Lead(partition int32, log Log, epoch int32) {
	c.box.Post(message{kind: msgLead, partition: partition, log: log, epoch: epoch})
}

// Resign says that this box leads a partition no more: who waits is told to look for the coordinator again.
func (c *Coordinator) Resign(partition int32) {
	c.box.Post(message{kind: msgResign, partition: partition})
}

// TopicsDeleted removes the offsets of topics that are no more.
func (c *Coordinator) TopicsDeleted(names []string) {
	c.box.Post(message{kind: msgTopicsDeleted, names: slices.Clone(names)})
}

// Drain readies the coordinator for the end of the box: joins and syncs that wait for other members, for minutes perhaps,
// are answered COORDINATOR_NOT_AVAILABLE, and so is everything that comes from now on. Commits under way are still
// answered as they end. It does not wait.
func (c *Coordinator) Drain() { c.box.Post(message{kind: msgDrain}) }

// Close answers everybody who waits with COORDINATOR_NOT_AVAILABLE and ends the owner.
func (c *Coordinator) Close() {
	c.box.Post(message{kind: msgStop})
	c.box.Close()
}

// refusal is the answer to q when the coordinator, not the group, refuses it. Two of Kafka's exceptions stand here: a
// heartbeat while groups are being loaded succeeds, because members must not take it for the loss of their group; and
// OffsetFetch says NOT_COORDINATOR where clients before 3.9 do not know COORDINATOR_NOT_AVAILABLE.
func refusal(q group.Request, err *kerr.Error) group.Answer {
	switch q.(type) {
	case *group.Heartbeat:
		if err == kerr.CoordinatorLoadInProgress {
			err = nil
		}
	case *group.FetchOffsets:
		if err == kerr.CoordinatorNotAvailable {
			err = kerr.NotCoordinator
		}
	}
	return group.Refuse(q, err)
}
