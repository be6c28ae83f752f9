package ensemble

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"cairn/engine/ensemble/znode"
)

// attachment is what this box knows of a session that one of its connections holds, or held: when its client was last
// heard from, which the leader's keeper is told of at every sweep.
type attachment struct {
	out       Outbox // nil after a Detach
	refused   bool   // a write of out had no outcome: it takes no more of them
	timeoutMs int32
	touched   atomic.Int64  // monotonic nanoseconds; 0 when nothing was heard since the last sweep
	told      time.Duration // touched, when the leader was told of it last; the owner's
	local     bool          // a session of this box's own, whose time is kept here
}

// attach gives a session to a connection, and kills the one that held it. The write lock is held.
func (e *Ensemble) attach(session int64, out Outbox, timeoutMs int32) {
	a := e.attached[session]
	if a == nil {
		a = &attachment{}
		e.attached[session] = a
	}
	if a.out != out {
		e.dismiss(a, session)
	}
	a.out, a.refused, a.timeoutMs = out, false, timeoutMs
	a.touched.Store(int64(e.deps.Runtime.Clock().Now().Mono))
}

// dismiss ends the connection that held a session which another one has now. The write lock is held.
func (e *Ensemble) dismiss(a *attachment, session int64) {
	if a.out != nil {
		e.watches.removeAll(a.out)
		a.out.Kill(fmt.Errorf("session 0x%x: %w", session, ErrSessionMoved))
	}
}

// reattach gives an open session to another connection, after checking the password. A session that another box held
// is moved by a committed entry first, and so is every session of a box that does not lead: the leader, who keeps the
// time of all, says whether it is still open. One that comes back with another timeout is too: as in ZooKeeper that one
// counts from now on, also for the next leader.
func (o *owner) reattach(m *message) {
	if err := o.e.refusal(); err != nil {
		m.grant(Grant{}, err)
		return
	}
	session, open := o.e.tree.Session(m.session)
	if !open && !m.ok {
		// It may have been opened through another box a moment ago: this one looks again when it has caught up. The leader
		// too: the others may have committed what its own disk has not taken yet.
		ask := *m
		ask.ok = true
		o.reads.add(o, func(_ uint64, err error) {
			if err != nil {
				ask.grant(Grant{}, err)
				return
			}
			o.reattach(&ask)
		})
		o.again = true
		return
	}
	if !open || session.IsBox() || !o.e.tree.CheckPassword(m.session, []byte(m.password)) {
		m.grant(Grant{}, fmt.Errorf("session 0x%x: %w", m.session, ErrSessionExpired))
		return
	}
	if o.ready && !o.keep.Touch(o.now, m.session) {
		m.grant(Grant{}, fmt.Errorf("session 0x%x, whose end is proposed: %w", m.session, ErrSessionExpired))
		return
	}
	if session.Box == o.e.cfg.Box && o.ready && session.TimeoutMs == m.timeoutMs {
		o.e.mu.Lock()
		defer o.e.mu.Unlock()
		o.keepSession(session)
		o.granted(m)
		return
	}
	move := znode.Entry{Kind: znode.KindMoveSession, Session: m.session, TimeoutMs: m.timeoutMs}
	occasion := *m.occasion
	ask := message{kind: msgReattach, ok: m.ok, occasion: &occasion} // the batch's memory ends with the step
	if ask.began == 0 {
		ask.began = o.now.Mono
	}
	o.internal(move, func(out znode.Outcome, err error) {
		if errors.Is(err, ErrUncertain) && !o.over && o.now.Mono-ask.began < forwardWaitMax {
			o.moveAgain(&ask)
			return
		}
		if err == nil && out.Err != 0 {
			err = fmt.Errorf("session 0x%x: %w", ask.session, ErrSessionExpired)
		}
		if err != nil {
			ask.grant(Grant{}, err)
			return
		}
		o.granted(&ask)
	})
}

// moveAgainAfter is the pause before a session is moved again.
const moveAgainAfter = 20 * time.Millisecond

// moveAgain moves a session once more, whose move was on its way to a leader that is lost: its client comes here because the
// leader's box is gone, as often as not, and a move that is done twice is done once.
func (o *owner) moveAgain(m *message) {
	o.moves = append(o.moves, m)
	o.movesAt = o.now.Mono + moveAgainAfter
}

func (o *owner) tendMoves() {
	if len(o.moves) == 0 || o.now.Mono < o.movesAt {
		return
	}
	moves := o.moves
	o.moves = nil
	for _, m := range moves {
		o.reattach(m)
	}
}

// granted attaches and answers. The write lock is held, so that no event is lost between the two.
func (o *owner) granted(m *message) {
	o.e.attach(m.session, m.out, m.timeoutMs)
	m.grant(Grant{Session: m.session, Password: o.e.tree.Password(m.session), TimeoutMs: m.timeoutMs}, nil)
}

// killAll ends every connection that holds a session.
func (o *owner) killAll(reason error) {
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	ids := make([]int64, 0, len(o.e.attached))
	for id := range o.e.attached {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if a := o.e.attached[id]; a.out != nil {
			a.out.Kill(reason)
		}
	}
}

// Holder is the connection that holds a session on this box, or nil.
func (e *Ensemble) Holder(session int64) Outbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if a := e.attached[session]; a != nil {
		return a.out
	}
	return nil
}
