package syncer

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// Class orders the jobs of a round.
type Class uint8

const (
	// Raft is the ensemble's log: agreement waits for it, and everything else waits for agreement.
	Raft Class = iota
	// Log is a partition's log.
	Log
	// Checkpoint is what may be late.
	Checkpoint
	// Behind is a partition's log that nobody waits for: a replica that is not in sync copies much and is in no hurry. It has rounds of
	// its own beside the others, one file at a time: megabytes in a round would make everybody in it wait for them.
	Behind
	classes
)

// ErrClosed is what jobs get that were submitted after Close.
var ErrClosed = errors.New("syncer closed")

// Job is something that can be flushed. Equal values (pointer identity) submitted while a round runs are flushed once
// in the next; with Behind and with another class once in each, perhaps at the same time.
type Job interface {
	// Flush makes durable everything that was written before it was called.
	Flush() error
}

// Config are the syncer's bounds.
type Config struct {
	// Name appears in metrics: the device's log directory.
	Name string
	// ParallelMax is how many files one round flushes at the same time. More hides latency of many small files; the
	// device serialises them in the end (reference/performance.md, finding 3). Default 4.
	ParallelMax int
	// WaitingMax bounds the submissions that wait. Submitters are themselves bounded; this is the backstop. Default 65536.
	WaitingMax int
	// Observer takes the metrics; nil discards them.
	Observer *observe.Observer
}

// Syncer is the owner of one device's flushes.
type Syncer struct {
	box   *mailbox.Mailbox[message]
	owner *owner // read by Close alone, after the mailbox has ended
}

type message struct {
	class Class
	job   Job
	done  func(error)
	round *round // set: a lane of this round has ended
	stop  bool   // refuse what waits and what comes
}

// New starts the syncer of a device.
func New(rt mailbox.Runtime, cfg Config) *Syncer {
	if cfg.ParallelMax <= 0 {
		cfg.ParallelMax = 4
	}
	if cfg.WaitingMax <= 0 {
		cfg.WaitingMax = 1 << 16
	}
	if cfg.Observer == nil {
		cfg.Observer = observe.Discard()
	}
	o := &owner{
		rt: rt, cfg: cfg,
		flushes: cfg.Observer.Metrics.Counter("cairn_syncer_flushes_total", "device", cfg.Name),
		rounds:  cfg.Observer.Metrics.Counter("cairn_syncer_rounds_total", "device", cfg.Name),
		behind:  cfg.Observer.Metrics.Counter("cairn_syncer_behind_flushes_total", "device", cfg.Name),
		asked:   cfg.Observer.Metrics.Counter("cairn_syncer_requests_total", "device", cfg.Name),
		seconds: cfg.Observer.Metrics.Histogram("cairn_syncer_round_seconds", "device", cfg.Name),
	}
	s := &Syncer{owner: o}
	s.box = mailbox.New(rt, "syncer "+cfg.Name, cfg.WaitingMax, o)
	o.box = s.box
	return s
}

// Submit asks for a flush that starts after this call. done is called once, on the syncer's goroutine or one of its
// flushing goroutines, and must only post a message. A refused submission calls done at once with ErrFull or ErrClosed.
func (s *Syncer) Submit(class Class, job Job, done func(error)) {
	err := s.box.Send(message{class: class, job: job, done: done})
	switch {
	case err == nil:
	case errors.Is(err, mailbox.ErrClosed):
		done(ErrClosed)
	default:
		done(err)
	}
}

// Close answers whatever still waits with ErrClosed and returns when the round under way has ended: from then on nobody
// touches the files. Closing twice is allowed.
func (s *Syncer) Close() {
	s.box.Post(message{stop: true})
	s.box.Close()
	for _, r := range s.owner.running {
		if r != nil {
			r.finish()
		}
	}
}

// owner gathers submissions while a round runs.
type owner struct {
	rt      mailbox.Runtime
	box     *mailbox.Mailbox[message]
	cfg     Config
	waiting [classes][]group
	index   map[asking]*[]func(error)
	running [2]*round // one of each kind: beside is the second's index
	alone   bool      // the last round was Raft's own although others waited
	closed  bool

	flushes, rounds, behind, asked *observe.Counter // rounds and seconds are of those that somebody waits for
	seconds                        *observe.Histogram
}

// kinds of rounds, which run side by side.
const (
	ahead = iota
	beside
)

// kind is which rounds a class is flushed in.
func (c Class) kind() int {
	if c == Behind {
		return beside
	}
	return ahead
}

// asking is a job that waits for a round of a kind.
type asking struct {
	job  Job
	kind int
}

// group is one job and everybody who waits for it.
type group struct {
	job  Job
	done *[]func(error)
}

// round is a set of jobs that are flushed together, by several lanes side by side.
type round struct {
	kind   int
	groups []group
	lanes  []lane
	left   int // lanes whose end the owner has not heard of; owner's
	began  time.Duration
}

// lane flushes every len(lanes)-th job of a round. Who takes it first runs it: the goroutine that was spawned for it, or
// Close, which cannot wait for one that a Scheduler has not begun.
type lane struct {
	taken atomic.Bool
	ended sync.WaitGroup
}

// Step takes submissions and starts a round when none runs.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	for _, m := range batch {
		if m.round != nil {
			m.round.left--
			if m.round.left == 0 {
				if m.round.kind == ahead {
					o.seconds.Observe((now.Mono - m.round.began).Seconds())
				}
				o.running[m.round.kind] = nil
			}
			continue
		}
		if m.stop {
			o.refuseAll()
			continue
		}
		if o.closed {
			m.done(ErrClosed)
			continue
		}
		o.asked.Inc()
		o.add(m)
	}
	for kind, r := range o.running {
		if r == nil {
			o.start(kind, now)
		}
	}
	return 0
}

func (o *owner) add(m message) {
	if o.index == nil {
		o.index = make(map[asking]*[]func(error))
	}
	at := asking{m.job, m.class.kind()}
	if waiters, ok := o.index[at]; ok {
		*waiters = append(*waiters, m.done)
		return
	}
	waiters := &[]func(error){m.done}
	o.index[at] = waiters
	o.waiting[m.class] = append(o.waiting[m.class], group{m.job, waiters})
}

// refuseAll answers what waits; the round under way ends by itself.
func (o *owner) refuseAll() {
	o.closed = true
	for c := range o.waiting {
		for _, g := range o.waiting[c] {
			for _, done := range *g.done {
				done(ErrClosed)
			}
		}
		o.waiting[c] = nil
	}
	o.index = nil
}

// start flushes everything that waits for a round of a kind. The raft jobs have a round of their own: agreement must not wait for the
// partitions' files, and what arrives meanwhile joins the next round. They have it once in a row: a raft log that always
// has something to flush would otherwise keep the partitions from their turn for good.
func (o *owner) start(kind int, now clock.Now) {
	var groups []group
	take := func(classes ...Class) {
		for _, c := range classes {
			groups = append(groups, o.waiting[c]...)
			o.waiting[c] = nil
		}
	}
	lanesMax := o.cfg.ParallelMax
	switch others := len(o.waiting[Log])+len(o.waiting[Checkpoint]) > 0; {
	case kind == beside:
		take(Behind)
		lanesMax = 1
	case len(o.waiting[Raft]) > 0 && !(others && o.alone):
		take(Raft)
		o.alone = others
	default:
		take(Raft, Log, Checkpoint)
		o.alone = false
	}
	if len(groups) == 0 {
		return
	}
	for _, g := range groups {
		delete(o.index, asking{g.job, kind})
	}
	lanes := min(len(groups), lanesMax)
	r := &round{kind: kind, groups: groups, lanes: make([]lane, lanes), left: lanes, began: now.Mono}
	for i := range r.lanes {
		r.lanes[i].ended.Add(1)
	}
	o.running[kind] = r
	o.flushes.Add(len(groups))
	if kind == beside {
		o.behind.Add(len(groups))
	} else {
		o.rounds.Inc()
	}
	for i := range r.lanes {
		o.rt.Spawn("flush", func() { r.flush(i) }, func() { o.box.Post(message{round: r}) })
	}
}

// finish returns when every lane has ended; it runs those that nobody has begun.
func (r *round) finish() {
	for i := range r.lanes {
		r.flush(i)
		r.lanes[i].ended.Wait()
	}
}

// flush runs a lane unless somebody else does, and tells those who wait as soon as their own job is done.
func (r *round) flush(i int) {
	l := &r.lanes[i]
	if !l.taken.CompareAndSwap(false, true) {
		return
	}
	defer l.ended.Done()
	for ; i < len(r.groups); i += len(r.lanes) {
		g := r.groups[i]
		err := g.job.Flush()
		for _, done := range *g.done {
			done(err)
		}
	}
}
