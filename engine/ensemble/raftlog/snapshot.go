package raftlog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strconv"
	"strings"

	"cairn/platform/vfs"
)

// snapshotsKept is how many snapshots stay: the newest, and the one to fall back to.
const snapshotsKept = 2

const (
	snapshotMagic      = "CAIRNSNP"
	snapshotVersion    = 1
	snapshotSuffix     = ".snap"
	snapshotTemp       = ".snap.tmp"
	snapshotDamaged    = ".snap.damaged"
	snapshotHeadBytes  = 8 + 4 + 4 + 8 + 8 // magic, version, length of the membership, index, term
	snapshotChunkBytes = 256 << 10
	snapshotTrailBytes = 4 + 4 + 8 + 4 // a chunk of length 0, checksum, bytes in all, checksum of all
	confStateBytesMax  = 1 + 4*(4+8*membersMax)
)

// SnapshotID names a snapshot: the last entry that it contains.
type SnapshotID struct{ Index, Term uint64 }

// SnapshotMeta is what a snapshot says about itself.
type SnapshotMeta struct {
	SnapshotID
	ConfState ConfState
}

func snapshotName(index uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, index, snapshotSuffix)
}

// SnapshotWriter writes one snapshot beside the others. It belongs to one goroutine, which may be any.
type SnapshotWriter struct {
	log   *Log
	meta  SnapshotMeta
	temp  string
	file  vfs.File
	at    int64
	chunk []byte
	bytes uint64 // of the stream
	sum   uint32 // of the stream
	err   error
}

// CreateSnapshot starts a snapshot. Either Commit or Abort must be called.
func (l *Log) CreateSnapshot(m SnapshotMeta) (*SnapshotWriter, error) {
	conf := encodeConfState(m.ConfState)
	if len(conf) > confStateBytesMax || m.Index == 0 {
		return nil, fmt.Errorf("snapshot at index %d with a membership of %d bytes", m.Index, len(conf))
	}
	if l.isClosed() {
		return nil, ErrClosed
	}
	w := &SnapshotWriter{log: l, meta: m, temp: path.Join(l.snapDir, fmt.Sprintf("%0*d%s", segmentDigits, m.Index, snapshotTemp))}
	var err error
	if w.file, err = l.deps.FS.Open(w.temp, vfs.Create); err != nil {
		return nil, fmt.Errorf("create a snapshot: %w", err)
	}
	if err := w.file.Truncate(0); err != nil {
		w.Abort()
		return nil, fmt.Errorf("create a snapshot: %w", err)
	}
	head := append([]byte(snapshotMagic), 0, 0, 0, snapshotVersion)
	head = binary.BigEndian.AppendUint32(head, uint32(len(conf)))
	head = binary.BigEndian.AppendUint64(head, m.Index)
	head = binary.BigEndian.AppendUint64(head, m.Term)
	head = append(head, conf...)
	w.put(binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli)))
	w.chunk = make([]byte, 8, 8+snapshotChunkBytes)
	return w, nil
}

// Write adds to the stream. The bytes are borrowed until it returns.
func (w *SnapshotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.err == nil {
		k := min(len(p), 8+snapshotChunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, p[:k]...)
		p = p[k:]
		if len(w.chunk) == 8+snapshotChunkBytes {
			w.flushChunk()
		}
	}
	if w.err != nil {
		return 0, w.err
	}
	return n, nil
}

func (w *SnapshotWriter) flushChunk() {
	body := w.chunk[8:]
	if len(body) == 0 {
		return
	}
	w.bytes += uint64(len(body))
	w.sum = crc32.Update(w.sum, castagnoli, body)
	binary.BigEndian.PutUint32(w.chunk, uint32(len(body)))
	binary.BigEndian.PutUint32(w.chunk[4:], crc32.Checksum(body, castagnoli))
	w.put(w.chunk)
	w.chunk = w.chunk[:8]
}

func (w *SnapshotWriter) put(b []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.file.WriteAt(b, w.at); err != nil {
		w.err = fmt.Errorf("write snapshot %s at byte %d: %w", w.temp, w.at, err)
		return
	}
	w.at += int64(len(b))
}

// Commit makes the snapshot durable under its name and then removes the oldest beyond those that are kept. The log must
// be told by MarkSnapshot. It returns the file's size.
func (w *SnapshotWriter) Commit() (int64, error) {
	w.flushChunk()
	trail := make([]byte, 8, snapshotTrailBytes)
	trail = binary.BigEndian.AppendUint64(trail, w.bytes)
	trail = binary.BigEndian.AppendUint32(trail, w.sum)
	binary.BigEndian.PutUint32(trail[4:], crc32.Checksum(trail[8:], castagnoli))
	w.put(trail)
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if w.err != nil {
		err := w.err
		w.Abort()
		return 0, fmt.Errorf("commit the snapshot at index %d: %w", w.meta.Index, err)
	}
	err := w.file.Close()
	w.file = nil
	if err == nil {
		err = w.log.admit(w.temp, w.meta.SnapshotID)
	}
	if err != nil {
		w.log.discard(w.temp)
		return 0, fmt.Errorf("commit the snapshot at index %d: %w", w.meta.Index, err)
	}
	return w.at, nil
}

// admit gives a whole snapshot its name, makes that durable, and notes it. Nothing is touched after Close: the directory
// may then be another's. fileMu keeps Close away meanwhile.
func (l *Log) admit(temp string, id SnapshotID) error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if l.isClosed() {
		return ErrClosed
	}
	if err := l.deps.FS.Rename(temp, path.Join(l.snapDir, snapshotName(id.Index))); err != nil {
		return err
	}
	if err := l.deps.FS.SyncDir(l.snapDir); err != nil {
		return err
	}
	return l.keep(id)
}

// Abort gives the snapshot up. Abort after Commit does nothing.
func (w *SnapshotWriter) Abort() {
	if w.file == nil {
		return
	}
	_ = w.file.Close() // the file is removed: nothing can be lost with it
	w.file = nil
	w.log.discard(w.temp)
}

// discard removes what became of no snapshot, unless the log was closed: the next Open removes it then, and may be doing so.
func (l *Log) discard(temp string) {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if !l.isClosed() {
		_ = l.deps.FS.Remove(temp) // or at the next Open
	}
}

// keep notes a committed snapshot and removes what is older than those kept. One that came from another box meanwhile may
// be newer than the one that this box has just written.
func (l *Log) keep(id SnapshotID) error {
	l.pendingMu.Lock()
	var drop []SnapshotID
	at, again := slices.BinarySearchFunc(l.good, id.Index, func(s SnapshotID, index uint64) int { return cmp.Compare(s.Index, index) })
	if again {
		l.good[at] = id // the same index written again
	} else {
		l.good = slices.Insert(l.good, at, id)
	}
	for len(l.good) > snapshotsKept {
		drop = append(drop, l.good[0])
		l.good = l.good[1:]
	}
	l.pendingMu.Unlock()
	for _, old := range drop {
		if err := l.deps.FS.Remove(path.Join(l.snapDir, snapshotName(old.Index))); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Snapshots are those that are kept, the oldest first.
func (l *Log) Snapshots() []SnapshotID {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	return append([]SnapshotID(nil), l.good...)
}

// snapshotFiles lists the whole names, newest first, and removes what an interrupted write left.
func (l *Log) snapshotFiles() (indexes []uint64, err error) {
	infos, err := l.deps.FS.List(l.snapDir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for i := len(infos) - 1; i >= 0; i-- {
		name := infos[i].Name
		if strings.HasSuffix(name, snapshotTemp) {
			if err := l.deps.FS.Remove(path.Join(l.snapDir, name)); err != nil {
				return nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
			continue
		}
		digits, ok := strings.CutSuffix(name, snapshotSuffix)
		if !ok || len(digits) != segmentDigits {
			continue
		}
		index, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || index == 0 {
			continue
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}
