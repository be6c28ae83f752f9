package ensemble

import (
	"errors"
	"fmt"

	"cairn/engine/ensemble/znode"
)

// ErrGlobal: the session is one that all servers keep, and a box that is read-only cannot say whether it is still open.
// The connection is closed without an answer: its client tries another server, and keeps its session if it finds one that
// serves in time (ReadOnlyZooKeeperServer.validateSession).
var ErrGlobal = errors.New("a read-only box takes back no session of the ensemble")

// ReadOnly tells whether this box serves those who asked for no more than reads: it has been without a majority for
// Config.LeaderlessMax, and the tree is as it was then. It ends, with all such connections, when the box serves again.
func (e *Ensemble) ReadOnly() bool { return e.readOnly.Load() }

// ViewReadOnly is View for a box that is read-only; ErrNoQuorum says that it is not, or no longer.
func (e *Ensemble) ViewReadOnly(f func(t *znode.Tree, w *Watches)) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if !e.readOnly.Load() {
		return fmt.Errorf("not read-only any more: %w", ErrNoQuorum)
	}
	f(e.tree, e.watches)
	return nil
}

// ConnectReadOnly opens a local session on a box that is read-only, or gives one that is open to another connection
// (session is then not 0). The connection ends when the box ceases to be read-only. Errors are ErrNoQuorum, ErrGlobal,
// ErrSessionExpired and ErrFull. granted is called under the lock, before anything can be queued to out.
func (e *Ensemble) ConnectReadOnly(session int64, password []byte, timeoutMs int32, out Outbox, granted func(Grant)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.readOnly.Load() {
		return fmt.Errorf("not read-only any more: %w", ErrNoQuorum)
	}
	timeoutMs = e.clampTimeout(timeoutMs)
	var g Grant
	var err error
	if session == 0 {
		g, err = e.createLocal(timeoutMs, out)
	} else if _, global := e.tree.Session(session); global {
		err = fmt.Errorf("session 0x%x: %w", session, ErrGlobal)
	} else {
		g, err = e.reattachLocal(session, password, timeoutMs, out)
	}
	if err == nil {
		granted(g)
	}
	return err
}

// beReadOnly opens the door to readers where that is wanted and there is something to be read.
func (o *owner) beReadOnly() {
	if !o.e.cfg.ReadOnlyMode || o.e.readOnly.Load() || !o.e.tree.HasSecret() || o.differs != nil || o.limbo() {
		return
	}
	o.e.mu.Lock()
	o.e.readOnly.Store(true)
	o.e.mu.Unlock()
	o.e.deps.Observer.Log.Warn("read-only: this server knows no leader and serves clients that asked for no more than reads", "zxid", o.e.tree.Zxid())
}

// endReadOnly closes that door and tells whether it was open.
func (o *owner) endReadOnly() bool {
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	return o.e.readOnly.Swap(false)
}

// leaveReadOnly sends the readers over to a box that serves everybody, as this one is about to do.
func (o *owner) leaveReadOnly() {
	if !o.endReadOnly() {
		return
	}
	o.e.deps.Observer.Log.Info("read-only no more")
	o.killAll(errReadOnlyOver)
	if o.e.cfg.LocalSessions {
		return // their clients come back with them
	}
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	o.e.dropLocals()
}

// errReadOnlyOver ends the connections of a box that is read-only when it is so no more.
var errReadOnlyOver = errors.New("the server is read-only no more: the client is to come back")
