package ensemble

import (
	"sync"
	"sync/atomic"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
	"cairn/platform/mailbox"
)

// Ensemble is one box's part in the ensemble. All methods may be called from any goroutine unless they say otherwise.
type Ensemble struct {
	cfg  Config
	deps Deps
	box  *mailbox.Mailbox[message]
	log  *raftlog.Log

	// mu is the engine's one lock: it covers the tree, watches firing, sessions' outboxes and subscribers. The owner
	// takes it for writing once per committed batch; readers hold it through look-up, watch registration and queueing of
	// the reply. What is called while it is held must not block and must not come back here for View.
	mu          sync.RWMutex
	tree        *znode.Tree
	watches     *Watches
	attached    map[int64]*attachment
	locals      int // attached sessions that are this box's own
	nextLocalID uint64
	subscribers []*subscription
	// appliedIndex is that of the last entry in tree, digests what was noted of it, oldest first.
	appliedIndex uint64
	digests      []TreeDigest

	status atomic.Pointer[Status]
	// readsWaiting goes with it; learners are as this leader sees them, nil elsewhere.
	readsWaiting atomic.Int64
	learners     atomic.Pointer[[]Learner]
	serving      atomic.Bool
	readOnly     atomic.Bool // changes under mu
	failure      atomic.Pointer[error]
	ended        atomic.Bool
	receiving    atomic.Bool // a snapshot of the leader's
	raftID       atomic.Uint64
	wantsTree    atomic.Bool // this box's own differs from the others'
	metrics      *meters
}

// Write is one write of a client or of the box itself. Kind, Ops, Session, Auth and what else the kind asks for are the
// caller's; time, rules, box and the configured flags are stamped by the leader. The entry and all that it refers to
// belong to the ensemble until done is called.
type Write struct {
	Entry znode.Entry
	// From is the connection that asks. Where it no longer holds the session, the write is refused with
	// ErrSessionMoved. Nil is not checked.
	From Outbox
	// Local is the session that From holds where that is this box's own; Entry names none then, and has FlagLocal.
	Local int64
	// Before is called right before the write is applied, under the write lock, with the tree that all earlier writes have
	// left and this one has not changed. It is where reads are answered that were sent before the write and still wait.
	// It is bound as done is. Nil is not called.
	Before func(t *znode.Tree, w *Watches)
	// After is called right after a done that had no error, still under the write lock, with the tree as of this write and
	// before the next one is applied. It is where reads are answered that were sent behind the write: they see it and
	// nothing later. It is bound as done is, and may register watches. Nil is not called.
	After func(t *znode.Tree, w *Watches)
}

// Event is one notification of a watch.
type Event struct {
	Type jute.EventType
	Path string
	Zxid int64
}

// Outbox is a connection, as far as the ensemble knows it. Its values are compared: use pointers. Every method is called
// under the lock, must not block and must not call back.
type Outbox interface {
	// Event queues a notification. False says that the connection is over its bounds: the ensemble kills it.
	Event(e Event) bool
	// Access is who the connection is, for the rule that an event is only shown to who may read the node.
	Access() znode.Access
	// Kill ends the connection: its session moved, expired or was closed by somebody else, or the ensemble stopped.
	Kill(reason error)
}

// Grant is a session as its client is told of it.
type Grant struct {
	Session   int64
	Password  [16]byte
	TimeoutMs int32
	// Local: it is this box's own (Config.LocalSessions, or the box is read-only).
	Local bool
}

// Leadership is a change of the role of this box.
type Leadership struct {
	// Leader holds only once this box has applied the first entry of its own term: it knows everything committed before.
	Leader bool
	Term   uint64
	// Box that leads, 0 when none is known.
	Box uint64
}

// Batch is what a subscriber is told: the changes below its prefix of one committed batch, in order.
type Batch struct {
	// Zxid and Index of the last entry that the tree contains.
	Zxid  int64
	Index uint64
	// Initial: the present state, as creations from the prefix downwards, parents first. It is the first call, and also
	// the first after the tree was replaced by a snapshot from the leader or by a backup; what was known before is to be
	// forgotten.
	Initial bool
	Changes []znode.Change
	// Tree is consistent with the batch. Valid during the call only.
	Tree *znode.Tree
}

// Propose hands a write over. done is called exactly once: with the outcome when the write was applied, Outcome.Err
// included, or with an error when nothing is known to have happened (ErrUncertain: it may have). It runs on the
// ensemble's goroutine or the caller's, after the entry's events were queued to the outboxes and before the next entry
// is applied, mostly under the write lock: it must only queue or post, and must not call View.
func (e *Ensemble) Propose(w Write, done func(znode.Outcome, error)) {
	if err := e.send(message{kind: msgPropose, proposal: &proposal{write: w, done: done}}); err != nil {
		done(znode.Outcome{}, err)
	}
}

// View runs f under the read lock, with the tree as of the last applied batch. Look-up, watch registration and queueing
// of the reply belong into one f. It returns ErrNoQuorum before the box knows that its tree is recent, and ErrClosed or
// ErrFailed when it is over; f has then not run. f must not block, must not keep the tree, and must not call View.
func (e *Ensemble) View(f func(t *znode.Tree, w *Watches)) error {
	if err := e.refusal(); err != nil {
		return err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	f(e.tree, e.watches)
	return nil
}

// ReadIndex calls done when this box has applied everything that was committed in the ensemble when ReadIndex was
// called: a View in it, or after it, is linearizable. done runs on the ensemble's goroutine, without the lock, or on
// the caller's after an error. Before the ensemble serves it waits; ErrFull, ErrClosed and ErrFailed are the errors.
func (e *Ensemble) ReadIndex(done func(index uint64, err error)) {
	if err := e.send(message{kind: msgReadIndex, read: done}); err != nil {
		done(0, err)
	}
}

// Applied is the index of the last applied entry and the tree's zxid.
func (e *Ensemble) Applied() (index uint64, zxid int64) {
	s := e.status.Load()
	return s.Applied, s.Zxid
}

// CreateSession opens a session, held by out, and answers once that is committed. The timeout is clamped to what the
// configuration allows. done is called as Propose's is.
func (e *Ensemble) CreateSession(timeoutMs int32, out Outbox, done func(Grant, error)) {
	timeoutMs = e.clampTimeout(timeoutMs)
	if e.cfg.LocalSessions {
		e.openLocal(timeoutMs, out, done)
		return
	}
	w := Write{Entry: znode.Entry{Kind: znode.KindCreateSession, TimeoutMs: timeoutMs}}
	p := &proposal{write: w, grant: done, out: out, done: func(_ znode.Outcome, err error) { done(Grant{}, err) }}
	if err := e.send(message{kind: msgPropose, proposal: p}); err != nil {
		done(Grant{}, err)
	}
}

// Reattach gives a session to another connection. The connection that held it is killed and its writes that are not
// proposed yet are refused. A wrong password and a session that is not there are both ErrSessionExpired. done runs on
// the ensemble's goroutine under the lock, or on the caller's after an error.
func (e *Ensemble) Reattach(session int64, password []byte, timeoutMs int32, out Outbox, done func(Grant, error)) {
	m := message{kind: msgReattach, occasion: &occasion{session: session, password: string(password), timeoutMs: e.clampTimeout(timeoutMs), out: out, grant: done}}
	if IsLocal(session) && e.retakeLocal(&m) {
		return
	}
	if err := e.send(m); err != nil {
		done(Grant{}, err)
	}
}

// Detach says that the connection is gone: its watches go, the session stays until it expires. Nothing is called on out
// afterwards. It must not be called while View's f runs or from a completion.
func (e *Ensemble) Detach(session int64, out Outbox) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watches.removeAll(out)
	if a := e.attached[session]; a != nil && a.out == out {
		a.out = nil // when its client was last heard from still counts
	}
}

// Touch says that the session's client was heard from just now.
func (e *Ensemble) Touch(session int64) {
	now := e.deps.Runtime.Clock().Now().Mono
	e.mu.RLock()
	defer e.mu.RUnlock()
	if a := e.attached[session]; a != nil {
		a.touched.Store(int64(now))
	}
}

// Subscribe calls f with the present state of the prefix and then with every batch that changed something at or below
// it, in order, under the write lock. f must only update what it owns or post, and must not call View. The returned
// function ends the subscription.
func (e *Ensemble) Subscribe(prefix string, f func(Batch)) (cancel func(), err error) {
	return e.subscribe(prefix, f)
}

// Leadership calls f with the present role and with each change, on the ensemble's goroutine. f must not block.
func (e *Ensemble) Leadership(f func(Leadership)) {
	_ = e.send(message{kind: msgLeadership, occasion: &occasion{leadership: f}}) // an ensemble that is over has no role to tell
}

// Receive takes a message that another box's Transport has sent. The bytes are taken over. A message that does not
// decode is an error; one that does not fit now is dropped, as a network may.
func (e *Ensemble) Receive(from uint64, b []byte) error { return e.receive(from, b) }

// Unreachable says that messages to a box that were not urgent were lost, or may have been.
func (e *Ensemble) Unreachable(box uint64) {
	_ = e.send(message{kind: msgUnreachable, box: box})
}

// Gone says that the connection from a box ended, as it does at once when its process dies. A leader's death is then
// followed by an election without waiting for its silence; if it lives after all, the others refuse.
func (e *Ensemble) Gone(box uint64) {
	_ = e.send(message{kind: msgGone, box: box})
}

// SnapshotSent says how a SendSnapshot ended.
func (e *Ensemble) SnapshotSent(box uint64, ok bool) {
	_ = e.send(message{kind: msgSnapshotSent, box: box, ok: ok})
}

// Serving tells whether View and Propose may succeed.
func (e *Ensemble) Serving() bool { return e.refusal() == nil }

// Failed is the error that ended this box's ensemble, or nil. It wraps ErrFailed and the cause.
func (e *Ensemble) Failed() error {
	if p := e.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// refusal is why nothing is served, or nil.
func (e *Ensemble) refusal() error {
	switch {
	case e.failure.Load() != nil:
		return *e.failure.Load()
	case e.ended.Load():
		return ErrClosed
	case !e.serving.Load():
		return ErrNoQuorum
	}
	return nil
}

func (e *Ensemble) send(m message) error {
	if err := e.refusal(); err != nil && err != ErrNoQuorum {
		return err
	}
	switch err := e.box.Send(m); err {
	case nil:
		return nil
	case mailbox.ErrFull:
		return ErrFull
	default:
		return ErrClosed
	}
}

func (e *Ensemble) clampTimeout(ms int32) int32 {
	low, high := e.cfg.SessionTimeoutMin.Milliseconds(), e.cfg.SessionTimeoutMax.Milliseconds()
	return int32(min(max(int64(ms), low), high))
}
