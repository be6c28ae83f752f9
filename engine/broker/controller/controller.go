package controller

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/platform/mailbox"
	"cairn/platform/observe"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Brokers asks brokers. engine/node answers for this box's own; others are reached over the link.
type Brokers interface {
	// HighestEpochs asks a registered broker for the highest leader epoch in each log that it holds, and for the log directory of
	// those of which the catalog names none. It may leave out other empty logs. done is called once, from any goroutine, and only posts.
	HighestEpochs(broker int32, done func([]PartitionEpoch, error))
	// DropTopic asks a broker to confirm that it no longer holds a topic that is marked for deletion. done is called
	// once, from any goroutine, and only posts; until then the topic's znodes stay, at most for ten seconds.
	DropTopic(broker int32, topic catalog.UUID, done func(error))
}

// Config are the controller's settings.
type Config struct {
	// BrokerID is this box's broker.
	BrokerID int32
	// Incarnation is what this start of the box registered with. Until the catalog shows that registration nothing is
	// elected: the one that it shows before is the last start's. The zero id means that this box has no broker.
	Incarnation catalog.UUID
	// ClusterID is written where the cluster has none yet; empty means that one is drawn.
	ClusterID string
	// PartitionsMax bounds the partitions of the cluster; 0 means no bound.
	PartitionsMax int
	// PendingMax is how many requests may wait here; more are refused. Default 1000.
	PendingMax int
}

// requestTimeout is for requests that give none, and for those of other rooms.
const requestTimeout = 30 * time.Second

// Deps is what the controller needs of the rest of the box.
type Deps struct {
	Runtime  mailbox.Runtime
	Tree     catalog.Tree
	Catalog  *catalog.Catalog // must not follow the tree yet: New asks for its changes
	Brokers  Brokers
	Random   io.Reader // for topic ids
	Observer *observe.Observer
	// Ensure, if any, stands for EnsureTopic where AutoCreate needs it: it asks the controller's box, where that is another.
	Ensure func(name string, done func(error))
}

// Controller takes requests. Its methods may be called from any goroutine and never block; done is called once, on the
// owner's goroutine, and must not block.
type Controller struct {
	box      *mailbox.Mailbox[message]
	catalog  *catalog.Catalog
	pending  atomic.Int64
	capacity int64
	broker   int32
	creating creating
	ensure   func(name string, done func(error))
}

// New makes the controller and starts it. The tree may begin to deliver after it returned.
func New(cfg Config, deps Deps) *Controller {
	if cfg.PendingMax <= 0 {
		cfg.PendingMax = 1000
	}
	c := &Controller{catalog: deps.Catalog, capacity: int64(cfg.PendingMax), broker: cfg.BrokerID}
	if c.ensure = deps.Ensure; c.ensure == nil {
		c.ensure = c.EnsureTopic
	}
	o := newOwner(cfg, deps)
	c.box = mailbox.New(deps.Runtime, "controller", cfg.PendingMax+64, o)
	o.post = c.box.Post
	var poked atomic.Bool
	o.seen = func() { poked.Store(false) }
	deps.Catalog.OnChange(func(_, _ *catalog.Snapshot) {
		if !poked.Swap(true) { // one message, however many batches are applied before it is taken
			c.box.Post(message{kind: catalogChanged})
		}
	})
	deps.Tree.Leadership(func(l catalog.Leadership) { c.box.Post(message{kind: leadershipChanged, leadership: l}) })
	return c
}

// Close stops the controller. Requests that wait are answered with an error.
func (c *Controller) Close() {
	c.box.Post(message{kind: closing})
	c.box.Close()
}

// CreateTopics creates topics, or says what would come of it.
func (c *Controller) CreateTopics(req CreateTopics, done func([]CreatedTopic)) {
	c.submit(newCreation(req, done), req.Timeout)
}

// DeleteTopics deletes topics; it is answered when they are gone.
func (c *Controller) DeleteTopics(req DeleteTopics, done func([]DeletedTopic)) {
	c.submit(&deletion{req: req, done: done}, req.Timeout)
}

// CreatePartitions lets topics grow.
func (c *Controller) CreatePartitions(req CreatePartitions, done func([]TopicResult)) {
	c.submit(newGrowth(req, done), req.Timeout)
}

// AlterConfigs changes settings.
func (c *Controller) AlterConfigs(req AlterConfigs, done func([]ResourceResult)) {
	c.submit(&alteration{req: req, done: done}, requestTimeout)
}

// ElectLeaders holds elections. The error is that of the whole request.
func (c *Controller) ElectLeaders(req ElectLeaders, done func([]PartitionResult, *Error)) {
	c.submit(&electing{req: req, done: done}, req.Timeout)
}

// AlterReassignments changes replicas.
func (c *Controller) AlterReassignments(req AlterReassignments, done func([]PartitionResult)) {
	c.submit(&reassigning{req: req, done: done}, req.Timeout)
}

// AllocateProducerIDs gives a block of producer ids that nobody else gets.
func (c *Controller) AllocateProducerIDs(done func(first int64, count int32, err error)) {
	c.submit(&allocation{broker: c.broker, done: done}, requestTimeout)
}

// EnsureTopic makes sure that a topic is there and led, with the defaults for its name: __consumer_offsets and
// __transaction_state have settings of their own.
func (c *Controller) EnsureTopic(name string, done func(error)) {
	c.submit(&ensuring{name: name, done: done}, requestTimeout)
}

// AutoCreate starts the creation of a topic that a client asked for and does not wait for it. It returns why the name
// cannot be a topic's; nil when the topic is there or on its way, or when too many are on their way: the client asks
// again.
func (c *Controller) AutoCreate(topic string) error {
	err := CheckName(c.catalog.Current(), topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil || !c.creating.begin(topic) {
		return err
	}
	c.ensure(topic, func(error) { c.creating.end(topic) })
	return nil
}

var errBusy = &Error{Kind: kerr.RequestTimedOut, Message: "the controller has its maximum of requests waiting"}

// submit hands a plan over, or fails it at once when too many wait.
func (c *Controller) submit(p plan, timeout time.Duration) {
	if timeout <= 0 {
		timeout = requestTimeout
	}
	if c.pending.Add(1) > c.capacity {
		c.pending.Add(-1)
		p.fail(errBusy)
		return
	}
	m := message{kind: requested, request: &pending{plan: p, timeout: timeout, release: func() { c.pending.Add(-1) }}}
	if err := c.box.Send(m); err != nil {
		c.pending.Add(-1)
		p.fail(errStopping)
	}
}
