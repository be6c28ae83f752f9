package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/tidwall/wal"

	"cairn/platform/clock"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

// Config is where the log lives and how large its pieces are.
type Config struct {
	// Dir is the ensemble's directory; wal, snap and lock are made in it. The library writes real files: FS must name
	// the same ones.
	Dir string
	// SegmentBytes is the size at which another file is started. The last one is also held in memory. Default 2 MiB.
	SegmentBytes int
	// PayloadBytesMax is the longest payload that Append takes. Default 16 MiB.
	PayloadBytesMax int
	// PromisedSeq is a sequence that was promised to others as durable by means outside this directory. A log that
	// ends before it is reported as ShorterThanPromised. Zero promises nothing.
	PromisedSeq uint64
}

// Directories are where the log and its snapshots lie, below Config.Dir.
var Directories = [...]string{"wal", "snap"}

// Deps are what the log is given.
type Deps struct {
	FS vfs.FS
	// Clock is read to measure flushes and for nothing else.
	Clock    clock.Clock
	Observer *observe.Observer
}

// Recovered is what Open found.
type Recovered struct {
	// Fresh: there was neither a log nor a snapshot.
	Fresh bool
	// Snapshot was restored; zero when there is none.
	Snapshot SnapshotID
	// Entries are those behind the snapshot, contiguous.
	Entries   []Entry
	HardState HardState
	// ConfState is the membership as of the snapshot, or the one that the log began with.
	ConfState ConfState
	// Cut is what was taken off the tail.
	Cut Cut
	// LastSeq is the sequence of the last record.
	LastSeq uint64
	// ShorterThanPromised: the log ends before Config.PromisedSeq. Such a voter must not vote.
	ShorterThanPromised bool
	// Distrusted: the tree that was restored is not what the log makes of it, says an earlier Distrust.
	Distrusted bool
	// Fallbacks names snapshots that were damaged and set aside.
	Fallbacks []string
}

// Batch is what one step of the raft loop wants to be durable, in the order in which it is written.
type Batch struct {
	Entries []Entry
	// ConfState is the membership that a fresh log begins with; later ones are entries.
	ConfState *ConfState
	HardState *HardState
}

// Position is how far the log is durable.
type Position struct {
	File   string // base name of the last segment
	Length int64  // bytes of it
	Seq    uint64 // sequence of the last durable record
}

// Log is an open raft log. Append and MarkSnapshot may be called while a Flush runs; Flush is never called twice at a
// time (the syncer's promise).
type Log struct {
	cfg     Config
	deps    Deps
	walDir  string
	snapDir string
	lock    io.Closer

	pendingMu sync.Mutex // protects the block below; nothing is called while it is held
	pending   []byte     // frames that no flush has taken yet, end to end
	ends      []int      // where each of them ends in pending
	drop      uint64     // entries up to here are covered by every kept snapshot
	nextSeq   uint64
	hardState HardState // the last one appended
	synced    Position
	good      []SnapshotID // snapshots that are kept, ascending; at most snapshotsKept
	failed    error
	closed    bool

	fileMu   sync.Mutex // protects the files against Close while a flush runs or a snapshot is named; taken before pendingMu
	wal      *wal.Log
	tail     tail
	batch    wal.Batch
	spare    []byte
	spareEnd []int
	segments []segment // the last one is being written
	markSeq  uint64    // a hard state, membership and marker are durable from here on

	appended, flushed *observe.Counter
	flushSeconds      *observe.Histogram
	fsyncTime         *observe.Summary // ZooKeeper's, in milliseconds
}

// Open locks the directory, validates and repairs the log, restores the newest whole snapshot that the log covers by
// handing its bytes to restore, and returns what follows it. restore is called again when a snapshot turns out damaged
// while it is read, and must then forget what it has read. A restore that fails on sound bytes ends Open with its error.
func Open(cfg Config, deps Deps, restore func(SnapshotMeta, io.Reader) error) (*Log, *Recovered, error) {
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = 2 << 20
	}
	if cfg.PayloadBytesMax <= 0 {
		cfg.PayloadBytesMax = 16 << 20
	}
	if deps.Clock == nil {
		deps.Clock = clock.System()
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	l := &Log{cfg: cfg, deps: deps, walDir: path.Join(cfg.Dir, Directories[0]), snapDir: path.Join(cfg.Dir, Directories[1])}
	l.appended = deps.Observer.Metrics.Counter("cairn_raftlog_appended_bytes_total")
	l.flushed = deps.Observer.Metrics.Counter("cairn_raftlog_flushes_total")
	l.flushSeconds = deps.Observer.Metrics.Histogram("cairn_raftlog_flush_seconds")
	l.fsyncTime = deps.Observer.Metrics.Summary("fsynctime")
	for _, dir := range []string{l.walDir, l.snapDir} {
		if err := deps.FS.MkdirAll(dir); err != nil {
			return nil, nil, fmt.Errorf("make the ensemble's directory: %w", err)
		}
	}
	var err error
	if l.lock, err = deps.FS.Lock(path.Join(cfg.Dir, "lock")); err != nil {
		return nil, nil, fmt.Errorf("lock the ensemble's directory %s: %w", cfg.Dir, err)
	}
	r, err := l.recover(restore)
	if err != nil {
		return nil, nil, errors.Join(err, l.release())
	}
	return l, r, nil
}

// recover does Open's work under the lock.
func (l *Log) recover(restore func(SnapshotMeta, io.Reader) error) (*Recovered, error) {
	if err := tidy(l.deps.FS, l.walDir); err != nil {
		return nil, err
	}
	var log replay
	cut, loose, err := l.validateAll(&log)
	if err != nil {
		return nil, err
	}
	r := &Recovered{Cut: cut, HardState: log.hardState, ConfState: log.confState}
	if err := l.restoreNewest(&log, r, restore); err != nil {
		return nil, err
	}
	if r.Distrusted, err = l.distrusted(); err != nil {
		return nil, fmt.Errorf("look whether the snapshots are to be trusted: %w", err)
	}
	if loose {
		if err := shorten(l.deps.FS, l.walDir, &l.segments[len(l.segments)-1]); err != nil {
			return nil, err
		}
	}
	if err := l.openLibrary(); err != nil {
		return nil, err
	}
	r.Fresh = log.records == 0 && r.Snapshot == SnapshotID{}
	l.hardState = r.HardState
	r.LastSeq = l.nextSeq - 1
	r.ShorterThanPromised = r.LastSeq < l.cfg.PromisedSeq
	if log.unmarked {
		// Before anything that follows the snapshot: without its marker the next start would read what follows as a part of
		// the log that the snapshot has replaced.
		if err := l.MarkSnapshot(r.Snapshot); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// validateAll reads every segment in order. A missing one in the middle is a gap in the names. loose: the last one
// has bytes behind its records, zeros or what cut tells of.
func (l *Log) validateAll(log *replay) (cut Cut, loose bool, err error) {
	found, err := list(l.deps.FS, l.walDir)
	if err != nil {
		return Cut{}, false, err
	}
	l.nextSeq = 1
	for i, first := range found.segments {
		if i > 0 && first != l.nextSeq {
			return Cut{}, false, &CorruptError{Dir: l.walDir, File: segmentName(first), Position: -1,
				Reason: fmt.Sprintf("it begins with record %d, the segment before it ends with %d", first, l.nextSeq-1)}
		}
		s, err := validate(l.deps.FS, l.walDir, segmentName(first), first, i == len(found.segments)-1, log.add)
		if err != nil {
			return Cut{}, false, err
		}
		l.segments = append(l.segments, s.segment)
		l.nextSeq = s.next()
		cut, loose = s.cut, s.loose
	}
	return cut, loose, nil
}

// openLibrary hands the validated directory to the library and compares what it makes of it.
func (l *Log) openLibrary() error {
	w, err := wal.Open(l.walDir, &wal.Options{
		NoSync: true, SegmentSize: l.cfg.SegmentBytes, SegmentCacheSize: 1, NoCopy: true, AllowEmpty: true,
		DirPerms: 0o750, FilePerms: 0o640,
	})
	if err != nil {
		return fmt.Errorf("open the raft log %s: %w", l.walDir, err)
	}
	l.wal = w
	if len(l.segments) == 0 {
		l.segments = []segment{{first: 1}}
	}
	tail := &l.segments[len(l.segments)-1]
	last, err := w.LastIndex()
	if err != nil {
		return fmt.Errorf("open the raft log %s: %w", l.walDir, err)
	}
	if last != l.nextSeq-1 {
		return &CorruptError{Dir: l.walDir, File: segmentName(tail.first), Position: -1,
			Reason: fmt.Sprintf("the library sees %d records, our reader %d", last, l.nextSeq-1)}
	}
	if err := l.openTail(); err != nil {
		return err
	}
	// What the last process wrote and never flushed may be only in memory yet, and recovery has believed it.
	if err := l.tail.file.Sync(); err != nil {
		return fmt.Errorf("flush the raft log %s: %w", l.walDir, err)
	}
	for _, dir := range []string{l.walDir, l.snapDir, l.cfg.Dir, path.Dir(l.cfg.Dir)} {
		if err := l.deps.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("flush directory %s: %w", dir, err)
		}
	}
	l.synced = Position{File: segmentName(tail.first), Length: tail.bytes, Seq: l.nextSeq - 1}
	return nil
}

// Append queues the batch's records for the next Flush. It only copies memory: the caller bounds what is in flight.
// After an error nothing of the batch is queued.
func (l *Log) Append(b Batch) error {
	for i := range b.Entries {
		if len(b.Entries[i].Data) > l.cfg.PayloadBytesMax {
			return fmt.Errorf("entry %d of %d bytes: %w", b.Entries[i].Index, len(b.Entries[i].Data), ErrTooLarge)
		}
	}
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	if err := l.refuse(); err != nil {
		return err
	}
	for i := range b.Entries {
		e := &b.Entries[i]
		l.push(frame{kind: kindEntry, sub: e.Type, term: e.Term, index: e.Index, payload: e.Data})
	}
	if b.ConfState != nil {
		l.push(frame{kind: kindConfState, payload: encodeConfState(*b.ConfState)})
	}
	if b.HardState != nil {
		l.hardState = *b.HardState
		l.push(hardStateFrame(*b.HardState))
	}
	return nil
}

func hardStateFrame(h HardState) frame {
	return frame{kind: kindHardState, term: h.Term, index: h.Commit, payload: binary.BigEndian.AppendUint64(nil, h.Vote)}
}

// refuse reports why nothing more is taken. pendingMu is held.
func (l *Log) refuse() error {
	if l.failed != nil {
		return l.failed
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// push queues one frame. pendingMu is held.
func (l *Log) push(f frame) {
	f.seq = l.nextSeq
	l.nextSeq++
	l.pending = appendFrame(l.pending, &f)
	l.ends = append(l.ends, len(l.pending))
}

func (l *Log) isClosed() bool {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	return l.closed
}

// Failed is the error that ended this log, or nil.
func (l *Log) Failed() error {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	return l.failed
}

// Synced is how far the log is durable.
func (l *Log) Synced() Position {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	return l.synced
}

// fail latches the first error. fileMu is held.
func (l *Log) fail(err error) error {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("raft log %s: %w", l.walDir, err)
	}
	return l.failed
}

// Close lets go of the files and the lock. What was appended and not flushed is not written: nobody was told that it
// would be.
func (l *Log) Close() error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	l.pendingMu.Lock()
	if l.closed {
		l.pendingMu.Unlock()
		return nil
	}
	l.closed = true
	l.pending, l.ends = nil, nil
	l.pendingMu.Unlock()
	return l.release()
}

// release lets go of the files and the lock. fileMu is held, or nobody else knows the log yet.
func (l *Log) release() error {
	var errs []error
	if f := l.tail.file; f != nil {
		if end := l.segments[len(l.segments)-1].bytes; l.tail.blank > end && l.Failed() == nil {
			errs = append(errs, f.Truncate(end)) // that need not be durable: recovery knows such zeros
		}
		errs = append(errs, f.Close())
	}
	if l.wal != nil {
		errs = append(errs, l.wal.Close())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}
