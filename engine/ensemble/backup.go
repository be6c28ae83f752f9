package ensemble

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cairn/engine/ensemble/znode"
)

// BackupFrameBytes is about the length of the frames of a backup that this box writes: what one entry carries when it is
// restored.
const BackupFrameBytes = 64 << 10

// BackupInfo says what a backup holds.
type BackupInfo struct {
	// Zxid of the last transaction in it, and the index of its entry.
	Zxid  int64
	Index uint64
	Nodes int64
	// Ephemerals that were left out.
	Ephemerals int64
	Bytes      int64
}

// backingUp is one backup on its way.
type backingUp struct {
	w    io.Writer
	done func(BackupInfo, error)
	tree *znode.Tree
	cut  *znode.Cut
	info BackupInfo
	// failAt is when it is given up if it has not begun.
	failAt time.Duration
}

// backupPatience is how long a backup waits to begin: for a leader, and for a snapshot that is being written.
const backupPatience = time.Minute

// Backup writes the users' part of the tree to w (the format is znode's), with everything in it that was acknowledged in
// the ensemble before the call, exact at one entry, while the tree goes on. w is written to off the loop, by one goroutine,
// and must be about as fast as a disk: until all is written, what changes is kept twice and no snapshot is taken. done
// runs on the ensemble's goroutine or the caller's. One backup waits or runs at a time: another gets ErrFull. ErrNoQuorum:
// this box heard of no leader for a minute, or its tree is not that of the others.
func (e *Ensemble) Backup(w io.Writer, done func(BackupInfo, error)) {
	b := &backingUp{w: w, done: done}
	if err := e.send(message{kind: msgBackup, occasion: &occasion{backup: b}}); err != nil {
		done(BackupInfo{}, err)
	}
}

// backUp takes the wish for a backup: it begins once this box knows all that was acknowledged.
func (o *owner) backUp(b *backingUp) {
	if o.backup != nil {
		b.done(BackupInfo{}, fmt.Errorf("another backup is being taken: %w", ErrFull))
		return
	}
	b.failAt = o.now.Mono + backupPatience
	o.backup = b
	o.reads.add(o, func(_ uint64, err error) {
		if o.backup != b {
			return // given up
		}
		if err != nil {
			o.backedUp(b, err)
			return
		}
		o.recent = b
		o.again = true
	})
}

// backupIfDue cuts the backup that waits, unless a snapshot is being written: there is one cut at a time.
func (o *owner) backupIfDue() {
	if b := o.backup; b != nil && b.cut == nil && (o.now.Mono >= b.failAt || o.differs != nil) {
		o.backedUp(b, fmt.Errorf("it cannot begin: %w", ErrNoQuorum))
	}
	b := o.recent
	if b == nil || o.snap.running {
		return
	}
	o.recent = nil
	o.e.mu.Lock()
	b.tree = o.e.tree
	cut, err := b.tree.CutBackup()
	o.e.mu.Unlock()
	if err != nil {
		o.fail(fmt.Errorf("cut a backup at index %d: %w", o.applied, err)) // one at a time: a bug
		return
	}
	b.cut, b.info = cut, BackupInfo{Zxid: cut.Zxid(), Index: o.applied}
	o.snap.running = true
	e := o.e
	began := o.now.Mono
	e.deps.Runtime.Spawn("backup", func() { err = e.writeBackup(b) },
		func() {
			e.box.Post(message{kind: msgBackupWritten, err: err, occasion: &occasion{backup: b, began: began}})
		})
}

// writeBackup runs off the loop.
func (e *Ensemble) writeBackup(b *backingUp) error {
	counted := &countingWriter{w: b.w}
	if err := e.writeCut(counted, b.tree, b.cut, BackupFrameBytes); err != nil {
		return err
	}
	b.info.Bytes, b.info.Nodes, b.info.Ephemerals = counted.n, b.cut.Nodes(), b.cut.Left()
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// backupWritten closes the cut and tells whoever waits.
func (o *owner) backupWritten(b *backingUp, began time.Duration, err error) {
	o.e.mu.Lock()
	b.cut.Close()
	o.e.mu.Unlock()
	o.snap.running, o.again = false, true
	if err == nil && o.differs != nil {
		err = errors.Join(ErrNoQuorum, errDiffers) // found out meanwhile: what was written may be wrong
	}
	if err == nil {
		o.e.deps.Observer.Log.Info("backup written", "index", b.info.Index, "zxid", b.info.Zxid, "nodes", b.info.Nodes,
			"bytes", b.info.Bytes, "took", o.now.Mono-began)
	}
	o.backedUp(b, err)
}

func (o *owner) backedUp(b *backingUp, err error) {
	if o.backup == b {
		o.backup = nil
	}
	if o.recent == b {
		o.recent = nil
	}
	if err != nil {
		b.done(BackupInfo{}, fmt.Errorf("backup: %w", err))
		return
	}
	b.done(b.info, nil)
}
