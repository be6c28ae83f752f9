package ensemble

import (
	"errors"
	"fmt"
	"io"
	"time"

	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
)

// snapshotState is the owner's view of snapshots.
type snapshotState struct {
	entries  uint64 // applied since the last snapshot was cut
	logBytes int64  // appended since then
	running  bool
	retryAt  uint64 // entries at which a failed one is tried again
	// restUntil is when one may be written again only because a member wants it.
	restUntil time.Duration
	last      SnapshotStatus
}

// startedFrom is the snapshot whose tree this box went on from.
func startedFrom(index uint64, t *znode.Tree) SnapshotStatus {
	s := SnapshotStatus{Index: index}
	if index > 0 {
		s.Zxid, s.At = t.Zxid(), time.UnixMilli(t.TimeMs())
	}
	return s
}

// writtenSnapshot is one that is being written off the loop.
type writtenSnapshot struct {
	meta  raftlog.SnapshotMeta
	tree  *znode.Tree
	cut   *znode.Cut
	zxid  int64
	at    time.Time
	began time.Duration
	bytes int64
}

// snapshotIfDue cuts the tree at the applied index, without stopping: from here on the first change of a node saves what
// it was, and the file is written elsewhere, in chunks, each under a short hold of the read lock.
func (o *owner) snapshotIfDue() {
	limits := &o.e.cfg.Limits
	wanted := o.disk.wanted && o.now.Mono >= o.snap.restUntil
	due := o.snap.entries >= limits.SnapshotEntries || o.snap.logBytes >= limits.SnapshotLogBytes || wanted
	if o.differs != nil || o.snap.running || o.snap.entries < o.snap.retryAt || !due || o.applied == o.snap.last.Index {
		return
	}
	if o.disk.awaited = nothingHeld; o.disk.wanted {
		o.disk.awaited = o.applied
	}
	o.disk.wanted = false
	term, err := o.disk.Term(o.applied)
	if err != nil {
		o.fail(fmt.Errorf("term of applied entry %d: %w", o.applied, err))
		return
	}
	o.e.mu.Lock()
	tree := o.e.tree
	cut, err := tree.Cut()
	o.e.mu.Unlock()
	if err != nil {
		o.fail(fmt.Errorf("cut a snapshot at index %d: %w", o.applied, err)) // one at a time: a bug
		return
	}
	w := &writtenSnapshot{tree: tree, cut: cut, zxid: tree.Zxid(), at: o.now.Wall, began: o.now.Mono}
	w.meta = raftlog.SnapshotMeta{SnapshotID: raftlog.SnapshotID{Index: o.applied, Term: term}, ConfState: o.conf.Clone()}
	o.snap.running, o.snap.entries, o.snap.logBytes, o.snap.retryAt = true, 0, 0, 0
	e, log := o.e, o.log
	e.deps.Runtime.Spawn("snapshot", func() { err = e.writeSnapshot(log, w) },
		func() { e.box.Post(message{kind: msgSnapshotWritten, err: err, occasion: &occasion{snapshot: w}}) })
}

// snapshotRest is how long, as a multiple of the time that the last one took, no snapshot is written only because a member
// wants one. Where writes come so fast that the log cannot be kept until a snapshot is written, the disk is spared.
const snapshotRest = 4

// errReplaced ends a snapshot of a tree that the leader's snapshot has replaced.
var errReplaced = errors.New("the leader's snapshot is newer")

// snapshotChunkBytes is about how much of a snapshot is written under one hold of the read lock.
const snapshotChunkBytes = 256 << 10

// writeSnapshot runs off the loop.
func (e *Ensemble) writeSnapshot(log *raftlog.Log, w *writtenSnapshot) error {
	file, err := log.CreateSnapshot(w.meta)
	if err != nil {
		return err
	}
	defer file.Abort()
	if err := e.writeCut(file, w.tree, w.cut, snapshotChunkBytes); err != nil {
		return err
	}
	w.bytes, err = file.Commit()
	return err
}

// writeCut writes a cut of the tree in chunks of about that many bytes, each under a short hold of the read lock. It runs
// off the loop.
func (e *Ensemble) writeCut(to io.Writer, tree *znode.Tree, cut *znode.Cut, chunkBytes int) error {
	buffer := make([]byte, 0, chunkBytes+64<<10)
	for more := true; more; {
		if e.ended.Load() || e.failure.Load() != nil {
			return ErrClosed
		}
		if e.wantsTree.Load() {
			return errDiffers
		}
		e.mu.RLock()
		replaced := e.tree != tree
		if !replaced {
			buffer, more = cut.Next(buffer[:0], chunkBytes)
		}
		e.mu.RUnlock()
		if replaced {
			return errReplaced
		}
		if _, err := to.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// snapshotWritten closes the cut and lets the log forget what the previous snapshot covers. A snapshot that could not
// be written (a full disk) is no failure of the log: it is tried again later, and shown.
func (o *owner) snapshotWritten(w *writtenSnapshot, err error) {
	o.e.mu.Lock()
	w.cut.Close()
	o.e.mu.Unlock()
	o.snap.running = false
	took := o.now.Mono - w.began
	if errors.Is(err, errReplaced) || o.e.tree != w.tree || o.differs != nil {
		o.again, o.disk.awaited = true, nothingHeld
		return // what was written nevertheless is set aside with the others
	}
	if err == nil {
		err = o.log.MarkSnapshot(w.meta.SnapshotID)
		o.unsynced = true
	}
	o.snap.restUntil = o.now.Mono + snapshotRest*took
	if err != nil {
		o.disk.awaited = nothingHeld
		o.e.metrics.snapshotFails.Inc()
		o.snap.last.Err = err
		o.snap.entries += o.e.cfg.Limits.SnapshotEntries // still due
		o.snap.retryAt = o.snap.entries + max(o.e.cfg.Limits.SnapshotEntries/16, 1)
		o.e.deps.Observer.Log.Error("snapshot not written, to be tried again", "index", w.meta.Index, "error", err)
		return
	}
	o.e.metrics.snapshots.Inc()
	o.e.metrics.snapshotTime.Add(took.Milliseconds())
	o.disk.latest = w.meta
	o.snap.last = SnapshotStatus{Index: w.meta.Index, Zxid: w.zxid, At: w.at, Bytes: w.bytes, Took: took}
	o.e.deps.Observer.Log.Info("snapshot written", "index", w.meta.Index, "bytes", w.bytes, "took", took)
}
