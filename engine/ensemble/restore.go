package ensemble

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// ErrOvertaken: another restore was begun, or this one had no part for so long that its parts were dropped. The tree is
// what it was.
var ErrOvertaken = errors.New("overtaken by another restore, or idle for too long")

// ErrNoBackup: what was to be restored is no whole tree. The tree is what it was.
var ErrNoBackup = errors.New("not a backup that can be restored")

// restoreRetry is how long a restore waits before it asks how an uncertain part ended, and restorePatience how long it goes
// on without one that succeeds.
const (
	restoreRetry    = 200 * time.Millisecond
	restorePatience = time.Minute
)

// restoring is one restore on its way: frames are read off the loop, one at a time, and each is a write that all boxes
// stage; the last write swaps them in. What a leader's end made uncertain is looked for in the tree, since a part, and
// the swap, leave their mark in it: each is proposed again only if it is not there.
type restoring struct {
	id   uint64
	next func() ([]byte, error)
	done func(zxid int64, err error)

	state   restoreState
	part    uint64 // the number of frame
	frame   []byte
	retryAt time.Duration // in restoreWaits
	failAt  time.Duration
	cause   error // of the last part that did not succeed
	zxid    int64 // of the swap
}

type restoreState uint8

const (
	restoreReads    restoreState = iota // the next frame
	restoreProposes                     // frame, or the swap when that is nil
	restoreAwaits                       // an outcome, or a read index
	restoreWaits                        // for another try
	restoreEnds
)

// Restore puts a backup into the place of the users' part of the tree, on all boxes, all or nothing. next gives the
// payloads of the backup's frames in their order and then io.EOF; it is called off the loop, and what it returns belongs
// to the ensemble. It should have seen the whole backup before, since every frame goes through the log of every box. done
// gets the zxid of the swap. It runs on the ensemble's goroutine or the caller's. All sessions of clients end with the swap.
// ErrFull: this box is restoring already. ErrTreeFull: the backup does not fit the tree's budget. After ErrUncertain
// nobody knows whether the swap came to pass; after any other error the tree is what it was.
func (e *Ensemble) Restore(next func() ([]byte, error), done func(zxid int64, err error)) {
	r := &restoring{next: next, done: done}
	if err := e.send(message{kind: msgRestore, occasion: &occasion{restore: r}}); err != nil {
		done(0, err)
	}
}

func (o *owner) restoreBegin(r *restoring) {
	if o.restore != nil {
		r.done(0, fmt.Errorf("another restore is under way: %w", ErrFull))
		return
	}
	var id [8]byte
	for r.id == 0 {
		if _, err := io.ReadFull(o.e.deps.Random, id[:]); err != nil {
			r.done(0, fmt.Errorf("name the restore: %w", err))
			return
		}
		r.id = binary.BigEndian.Uint64(id[:])
	}
	r.failAt = o.now.Mono + restorePatience
	o.restore = r
	o.readFrame(r)
}

// readFrame asks for the next frame. Its end is a message.
func (o *owner) readFrame(r *restoring) {
	r.state = restoreReads
	box := o.e.box
	var frame []byte
	var err error
	o.e.deps.Runtime.Spawn("restore", func() { frame, err = r.next() },
		func() {
			box.Post(message{kind: msgRestoreFrame, err: err, occasion: &occasion{restore: r, frame: frame}})
		})
}

func (o *owner) restoreFrame(r *restoring, frame []byte, err error) {
	if o.restore != r {
		return // it is over meanwhile
	}
	switch {
	case err == io.EOF:
		r.frame = nil
	case err != nil:
		o.restoreEnd(r, fmt.Errorf("read part %d: %w", r.part, err))
		return
	default:
		r.frame = append([]byte{}, frame...) // an empty one is not nil
	}
	r.state, o.again = restoreProposes, true
}

// restoreGoOn does what is due of the restore.
func (o *owner) restoreGoOn() {
	r := o.restore
	if r == nil {
		return
	}
	switch {
	case r.state == restoreProposes:
		o.restorePropose(r)
	case r.state == restoreWaits && o.now.Mono >= r.retryAt:
		r.state = restoreAwaits
		o.reads.add(o, func(_ uint64, err error) { o.restoreLook(r, err) })
		o.again = true
	case o.now.Mono >= r.failAt && r.state != restoreReads:
		o.restoreEnd(r, cmp.Or(r.cause, ErrNoQuorum))
	}
}

func (o *owner) restorePropose(r *restoring) {
	r.state = restoreAwaits
	e := znode.Entry{Kind: znode.KindSwap, Data: znode.StageID(r.id)}
	if r.frame != nil {
		e = znode.Entry{Kind: znode.KindStage, Data: znode.StageData(r.id, r.part, r.frame)}
	}
	o.internal(e, func(out znode.Outcome, err error) {
		if o.restore == r && r.state == restoreAwaits {
			o.restoreOutcome(r, out, err)
		}
	})
}

// restoreOutcome follows a part or the swap. It is called while the lock may be held.
func (o *owner) restoreOutcome(r *restoring, out znode.Outcome, err error) {
	o.again = true
	switch {
	case errors.Is(err, ErrTreeFull), errors.Is(err, ErrTooLarge), errors.Is(err, ErrClosed), errors.Is(err, ErrFailed):
		o.restoreEnd(r, fmt.Errorf("part %d: %w", r.part, err))
	case err != nil:
		r.cause, r.state, r.retryAt = err, restoreWaits, o.now.Mono+restoreRetry
	case out.Err == jute.OK && r.frame == nil:
		r.zxid = out.Zxid
		o.restoreEnd(r, nil)
	case out.Err == jute.BadArguments:
		o.restoreEnd(r, fmt.Errorf("part %d: %w", r.part, ErrNoBackup))
	default: // OK, or it was there already
		o.restoreLook(r, nil)
	}
}

// restoreLook finds out from the tree how far the restore has come, and goes on from there.
func (o *owner) restoreLook(r *restoring, err error) {
	if o.restore != r || r.state != restoreAwaits {
		return
	}
	o.again = true
	if err != nil {
		r.cause, r.state, r.retryAt = err, restoreWaits, o.now.Mono+restoreRetry
		return
	}
	id, parts := o.e.tree.Staged()
	switch {
	case r.frame == nil && o.e.tree.Restored() == r.id:
		r.zxid = o.e.tree.Zxid()
		o.restoreEnd(r, nil)
	case r.frame != nil && id == r.id && parts == r.part+1:
		r.part++
		r.failAt = o.now.Mono + restorePatience
		o.readFrame(r)
	case id == r.id && parts == r.part, r.frame != nil && r.part == 0 && id != r.id:
		r.state = restoreProposes
	default:
		o.restoreEnd(r, ErrOvertaken)
	}
}

// restoreEnd ends a restore; what is staged of one that failed is dropped.
func (o *owner) restoreEnd(r *restoring, err error) {
	o.restore, r.state = nil, restoreEnds
	if err == nil {
		o.e.deps.Observer.Log.Info("restored", "parts", r.part, "zxid", r.zxid)
		r.done(r.zxid, nil)
		return
	}
	if r.swapping() && !errors.Is(err, ErrNoBackup) && !errors.Is(err, ErrOvertaken) {
		err = errors.Join(ErrUncertain, err)
	}
	o.e.deps.Observer.Log.Warn("not restored", "parts", r.part, "error", err)
	o.dropped, o.again = append(o.dropped, r.id), true
	r.done(0, fmt.Errorf("restore: %w", err))
}

// swapping tells whether all parts are staged, and the swap may have been proposed.
func (r *restoring) swapping() bool { return r.frame == nil && r.part > 0 }

// unstage drops what failed restores of this box have staged. One that cannot be proposed is dropped by its age.
func (o *owner) unstage() {
	dropped := o.dropped
	o.dropped = nil
	for _, id := range dropped {
		o.internal(znode.Entry{Kind: znode.KindUnstage, Data: znode.StageID(id)}, nil)
	}
}

// endLocals ends the local sessions of this box, whose clients know a tree that is no more: nobody else tells them. The write
// lock is held.
func (e *Ensemble) endLocals() {
	for _, id := range slices.Sorted(maps.Keys(e.attached)) {
		if a := e.forgetLocal(id); a != nil && a.out != nil {
			a.out.Kill(fmt.Errorf("session 0x%x: %w", id, ErrSessionExpired))
		}
	}
}
