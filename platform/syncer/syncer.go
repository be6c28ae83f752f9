package syncer

import (
	"errors"
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
	classes
)

// ErrClosed is what jobs get that were submitted after Close.
var ErrClosed = errors.New("syncer closed")

// Job is something that can be flushed. Equal values (pointer identity) submitted while a round runs are flushed once
// in the next.
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
	box *mailbox.Mailbox[message]
}

type message struct {
	class Class
	job   Job
	done  func(error)
	round *round // set: this round has ended
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
		asked:   cfg.Observer.Metrics.Counter("cairn_syncer_requests_total", "device", cfg.Name),
		seconds: cfg.Observer.Metrics.Histogram("cairn_syncer_round_seconds", "device", cfg.Name),
	}
	s := &Syncer{}
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

// Close lets the round under way finish and answers whatever still waits with ErrClosed.
func (s *Syncer) Close() { s.box.Close() }

// owner gathers submissions while a round runs.
type owner struct {
	rt      mailbox.Runtime
	box     *mailbox.Mailbox[message]
	cfg     Config
	waiting [classes][]group
	index   map[Job]*[]func(error)
	running *round

	flushes, rounds, asked *observe.Counter
	seconds                *observe.Histogram
}

// group is one job and everybody who waits for it.
type group struct {
	job  Job
	done *[]func(error)
}

// round is a set of jobs that are flushed together. Its fields are written by the flushing goroutine that owns each
// slot and read by the owner after the last of them has ended.
type round struct {
	groups []group
	left   int // flushing goroutines that have not ended; owner's
	began  time.Duration
}

// Step takes submissions and starts a round when none runs.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	for _, m := range batch {
		if m.round != nil {
			m.round.left--
			if m.round.left == 0 {
				o.seconds.Observe((now.Mono - m.round.began).Seconds())
				o.running = nil
			}
			continue
		}
		o.asked.Inc()
		o.add(m)
	}
	if o.running == nil {
		o.start(now)
	}
	return 0
}

func (o *owner) add(m message) {
	if o.index == nil {
		o.index = make(map[Job]*[]func(error))
	}
	if waiters, ok := o.index[m.job]; ok {
		*waiters = append(*waiters, m.done)
		return
	}
	waiters := &[]func(error){m.done}
	o.index[m.job] = waiters
	o.waiting[m.class] = append(o.waiting[m.class], group{m.job, waiters})
}

// start flushes everything that waits. The raft jobs have a round of their own: agreement must not wait for the
// partitions' files, and what arrives meanwhile joins the next round.
func (o *owner) start(now clock.Now) {
	var groups []group
	switch {
	case len(o.waiting[Raft]) > 0:
		groups = o.waiting[Raft]
		o.waiting[Raft] = nil
	default:
		for c := range o.waiting {
			groups = append(groups, o.waiting[c]...)
			o.waiting[c] = nil
		}
	}
	if len(groups) == 0 {
		return
	}
	for _, g := range groups {
		delete(o.index, g.job)
	}
	r := &round{groups: groups, left: min(len(groups), o.cfg.ParallelMax), began: now.Mono}
	o.running = r
	o.rounds.Inc()
	o.flushes.Add(len(groups))
	for lane := range r.left {
		o.rt.Spawn("flush", func() { r.flush(lane, o.cfg.ParallelMax) }, func() { o.box.Post(message{round: r}) })
	}
}

// flush does every lanes-th job of the round and tells those who wait as soon as their own job is done.
func (r *round) flush(lane, lanes int) {
	for i := lane; i < len(r.groups); i += lanes {
		g := r.groups[i]
		err := g.job.Flush()
		for _, done := range *g.done {
			done(err)
		}
	}
}
