package ensemble

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// A local session is known to this box alone: nothing is proposed for it, it owns no ephemeral, and this box ends it when
// its client is silent (ZooKeeper's LocalSessionTracker). A box that is read-only has no others.

// localBit tells a local session's id from all that the tree makes (znode.SessionIDOf): a zxid of a tree does not come near
// it, whatever was imported. The box's number is above it as there, and below it the box counts on from a number drawn
// for each process out of 2^55: that two processes' counts meet takes more sessions than a box lives to see.
const localBit = 1 << 55

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
	return Grant{Session: id, Password: e.tree.Password(id), TimeoutMs: timeoutMs}, nil
}

// reattachLocal gives a local session to another connection. The write lock is held.
func (e *Ensemble) reattachLocal(session int64, password []byte, timeoutMs int32, out Outbox) (Grant, error) {
	if a := e.attached[session]; a == nil || !a.local || !e.tree.CheckPassword(session, password) {
		return Grant{}, fmt.Errorf("session 0x%x: %w", session, ErrSessionExpired)
	}
	e.attach(session, out, timeoutMs)
	return Grant{Session: session, Password: e.tree.Password(session), TimeoutMs: timeoutMs}, nil
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
