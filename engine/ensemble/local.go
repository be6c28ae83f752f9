package ensemble

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// A local session is known to this box alone: nothing is proposed for it, it owns no ephemeral, and this box ends it when
// its client is silent (ZooKeeper's LocalSessionTracker). A box that is read-only has no others.

// A local session's id has znode.LocalBit, which tells it from all that the tree makes. The box's number is above it as
// there, and below it the box counts on from a number drawn for each process out of 2^55: that two processes' counts
// meet takes more sessions than a box lives to see.
const localBit = znode.LocalBit

// drawLocals gives this process its place among the ids.
func (e *Ensemble) drawLocals() error {
	var b [8]byte
	if _, err := io.ReadFull(e.deps.Random, b[:]); err != nil {
		return fmt.Errorf("draw the ids of local sessions: %w", err)
	}
	e.nextLocalID = binary.BigEndian.Uint64(b[:])
	return nil
}

// IsLocal tells whether an id is one that a box has made for a session of its own. It may have become everybody's since.
func IsLocal(session int64) bool { return session&localBit != 0 }

// createLocal opens a local session, held by out. The write lock is held.
func (e *Ensemble) createLocal(timeoutMs int32, out Outbox) (Grant, error) {
	if e.locals >= e.cfg.Limits.SessionsMax {
		return Grant{}, fmt.Errorf("%d local sessions: %w", e.locals, ErrFull)
	}
	id := int64(e.cfg.Box&0x7f)<<56 | localBit | int64(e.nextLocalID&(localBit-1))
	e.nextLocalID++
	e.attach(id, out, timeoutMs)
	e.attached[id].local = true
	e.locals++
	return Grant{Session: id, Password: e.tree.Password(id), TimeoutMs: timeoutMs, Local: true}, nil
}

// reattachLocal gives a local session to another connection. The write lock is held.
func (e *Ensemble) reattachLocal(session int64, password []byte, timeoutMs int32, out Outbox) (Grant, error) {
	if a := e.attached[session]; a == nil || !a.local || !e.tree.CheckPassword(session, password) {
		return Grant{}, fmt.Errorf("session 0x%x: %w", session, ErrSessionExpired)
	}
	e.attach(session, out, timeoutMs)
	return Grant{Session: session, Password: e.tree.Password(session), TimeoutMs: timeoutMs, Local: true}, nil
}

// CloseLocal ends a local session at its client's wish. Its watches go with the connection's Detach.
func (e *Ensemble) CloseLocal(session int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetLocal(session)
}

func (e *Ensemble) forgetLocal(session int64) *attachment {
	a := e.attached[session]
	if a == nil || !a.local {
		return nil
	}
	delete(e.attached, session)
	e.locals--
	return a
}

// tendLocals ends the local sessions whose clients were silent for their timeout.
func (o *owner) tendLocals() {
	if o.now.Mono < o.nextLocal {
		return
	}
	o.nextLocal = o.now.Mono + o.e.cfg.TickTime/2
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	if o.e.locals == 0 {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(o.e.attached)) {
		a := o.e.attached[id]
		heard := time.Duration(a.touched.Load())
		if !a.local || o.now.Mono-heard < time.Duration(a.timeoutMs)*time.Millisecond {
			continue
		}
		o.e.forgetLocal(id)
		o.e.metrics.expired.Inc()
		o.e.deps.Observer.Log.Info("local session expired", "session", id)
		if a.out != nil {
			a.out.Kill(fmt.Errorf("session 0x%x: %w", id, ErrSessionExpired))
		}
	}
}

// dropLocals forgets every local session; their connections are ended by the caller.
func (e *Ensemble) dropLocals() {
	for id := range e.attached {
		e.forgetLocal(id)
	}
}

// LocalSessions is how many sessions only this box knows.
func (e *Ensemble) LocalSessions() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.locals
}

// openLocal is CreateSession on a box whose sessions begin as its own.
func (e *Ensemble) openLocal(timeoutMs int32, out Outbox, done func(Grant, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refusal(); err != nil { // a box that stops serving ends what is attached by then
		done(Grant{}, err)
		return
	}
	done(e.createLocal(timeoutMs, out))
}

// retakeLocal is Reattach where the session is this box's own. False: it is not, or not any more.
func (e *Ensemble) retakeLocal(m *message) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attached[m.session]; a == nil || !a.local || e.refusal() != nil {
		return false
	}
	m.grant(e.reattachLocal(m.session, []byte(m.password), m.timeoutMs, m.out))
	return true
}

// KnowsAlone tells whether a session is still this box's own.
func (e *Ensemble) KnowsAlone(session int64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	a := e.attached[session]
	return a != nil && a.local
}

// Upgrade makes a local session, which out holds, one that all servers know, under the same id. It is proposed before
// whatever out proposes afterwards. done is called as Propose's is; a session that all know already is no error.
func (e *Ensemble) Upgrade(session int64, out Outbox, done func(error)) {
	var timeoutMs int32
	e.mu.RLock()
	if a := e.attached[session]; a != nil {
		timeoutMs = a.timeoutMs
	}
	e.mu.RUnlock()
	if timeoutMs == 0 {
		done(fmt.Errorf("session 0x%x: %w", session, ErrSessionExpired))
		return
	}
	entry := znode.Entry{Kind: znode.KindCreateSession, Session: session, TimeoutMs: timeoutMs}
	e.Propose(Write{Entry: entry, From: out}, func(o znode.Outcome, err error) {
		if err == nil && o.Err != jute.OK {
			err = o.Err
		}
		done(err)
	})
}

// upgraded follows a local session that all servers know from now on. The write lock is held.
func (e *Ensemble) upgraded(session int64) {
	if a := e.attached[session]; a != nil && a.local {
		a.local = false
		e.locals--
	}
}
