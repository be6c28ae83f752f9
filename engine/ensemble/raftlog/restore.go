package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"

	"cairn/platform/vfs"
)

// restoreNewest hands the newest whole snapshot that the log covers to restore. A damaged one is set aside under another
// name when an older one can take its place, and named in the error when none can.
func (l *Log) restoreNewest(log *replay, r *Recovered, restore func(SnapshotMeta, io.Reader) error) error {
	indexes, err := l.snapshotFiles()
	if err != nil {
		return err
	}
	if len(indexes) > 0 && log.records == 0 {
		return &CorruptError{Dir: l.walDir, Position: -1, File: ".",
			Reason: fmt.Sprintf("no record at all, but a snapshot %s", snapshotName(indexes[0]))}
	}
	var damages []error
	for i, index := range indexes {
		entries, covered := log.after(index)
		if !covered {
			damages = append(damages, &CorruptError{Dir: l.walDir, File: ".", Position: -1,
				Reason: fmt.Sprintf("the log begins behind entry %d, ends with entry %d and is committed to %d: it does not continue snapshot %s",
					log.base, log.base+uint64(len(log.entries)), log.hardState.Commit, snapshotName(index))})
			break
		}
		meta, damage, err := l.readSnapshot(index, restore)
		if err != nil {
			return err
		}
		if damage != nil {
			damages = append(damages, damage)
			continue
		}
		if log.unmarked = log.replacedBy(meta.SnapshotID); log.unmarked {
			entries = nil // it came from the leader, and the power went before the log was told to go on from it
		}
		r.Snapshot, r.Entries = meta.SnapshotID, entries
		r.ConfState = meta.ConfState
		r.HardState.Commit = max(r.HardState.Commit, meta.Index)
		if r.HardState.Term < meta.Term {
			r.HardState.Term, r.HardState.Vote = meta.Term, 0 // the vote was one of the older term
		}
		return l.adopt(indexes[:i], indexes[i:], meta.SnapshotID, r)
	}
	if entries, covered := log.after(0); covered && log.base == 0 {
		// The log goes back to the first entry: it needs no snapshot.
		r.Entries = entries
		return l.adopt(indexes, nil, SnapshotID{}, r)
	}
	if len(damages) > 0 {
		return errors.Join(damages...)
	}
	return &CorruptError{Dir: l.snapDir, File: snapshotName(log.marker.Index), Position: -1,
		Reason: fmt.Sprintf("missing, and the log begins behind entry %d", log.base)}
}

// adopt sets the damaged snapshots aside and notes those that are kept.
func (l *Log) adopt(damaged, kept []uint64, newest SnapshotID, r *Recovered) error {
	for _, index := range damaged {
		if err := l.setAside(index); err != nil {
			return fmt.Errorf("set a damaged snapshot aside: %w", err)
		}
		r.Fallbacks = append(r.Fallbacks, snapshotName(index))
	}
	for i := len(kept) - 1; i >= 0; i-- {
		id := SnapshotID{Index: kept[i]}
		if i == 0 {
			id = newest
		}
		if i >= snapshotsKept {
			if err := l.deps.FS.Remove(path.Join(l.snapDir, snapshotName(kept[i]))); err != nil {
				return fmt.Errorf("remove an old snapshot: %w", err)
			}
			continue
		}
		l.good = append(l.good, id)
	}
	return nil
}

// readSnapshot restores from one file. damage is set when the file is not what was written; err is anything else.
func (l *Log) readSnapshot(index uint64, restore func(SnapshotMeta, io.Reader) error) (m SnapshotMeta, damage, err error) {
	name := snapshotName(index)
	f, err := l.deps.FS.Open(path.Join(l.snapDir, name), vfs.ReadOnly)
	if err != nil {
		return m, nil, fmt.Errorf("open a snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return m, nil, fmt.Errorf("size of snapshot %s: %w", name, err)
	}
	r := &snapshotReader{dir: l.snapDir, name: name, file: f, size: size}
	if m, err = r.head(); err == nil && m.Index != index {
		err = r.damaged(0, "it says that it was taken at index %d", m.Index)
	}
	if err != nil {
		return m, r.damage, r.other(err)
	}
	err = restore(m, r)
	if r.damage == nil && err == nil {
		_, err = io.Copy(io.Discard, r) // what restore left unread is checked as well, and the trailer
	}
	return m, r.damage, r.other(err)
}

// snapshotReader is the stream of one snapshot file. Every byte that it gives out has been checked.
type snapshotReader struct {
	dir, name string
	file      vfs.File
	size, at  int64
	chunk     []byte
	rest      []byte
	bytes     uint64
	sum       uint32
	ended     bool
	damage    error
}

// other is err unless the damage explains it.
func (r *snapshotReader) other(err error) error {
	if r.damage != nil {
		return nil //nolint:nilerr // the damage is what is told
	}
	return err
}

func (r *snapshotReader) damaged(at int64, format string, args ...any) error {
	r.damage = &CorruptError{Dir: r.dir, File: r.name, Position: at, Reason: fmt.Sprintf(format, args...)}
	return r.damage
}

// next reads n bytes of the file.
func (r *snapshotReader) next(b []byte) error {
	if int64(len(b)) > r.size-r.at {
		return r.damaged(r.at, "the file ends %d bytes early", int64(len(b))-(r.size-r.at))
	}
	n, err := r.file.ReadAt(b, r.at)
	if n < len(b) {
		return fmt.Errorf("read snapshot %s at byte %d: %w", path.Join(r.dir, r.name), r.at, err)
	}
	r.at += int64(n)
	return nil
}

func (r *snapshotReader) head() (SnapshotMeta, error) {
	var m SnapshotMeta
	head := make([]byte, snapshotHeadBytes, snapshotHeadBytes+64)
	if err := r.next(head); err != nil {
		return m, err
	}
	conf := binary.BigEndian.Uint32(head[12:])
	version := binary.BigEndian.Uint32(head[8:])
	if string(head[:8]) != snapshotMagic || version != snapshotVersion || conf > confStateBytesMax {
		return m, r.damaged(0, "it does not begin like a snapshot of version %d", snapshotVersion)
	}
	head = append(head, make([]byte, conf+4)...)
	if err := r.next(head[snapshotHeadBytes:]); err != nil {
		return m, err
	}
	body := head[:len(head)-4]
	if binary.BigEndian.Uint32(head[len(body):]) != crc32.Checksum(body, castagnoli) {
		return m, r.damaged(0, "the head's checksum does not match")
	}
	m.Index, m.Term = binary.BigEndian.Uint64(head[16:]), binary.BigEndian.Uint64(head[24:])
	var err error
	if m.ConfState, err = decodeConfState(body[snapshotHeadBytes:]); err != nil {
		return m, r.damaged(snapshotHeadBytes, "%v", err)
	}
	return m, nil
}

// Read gives out checked bytes, and io.EOF only after the trailer has vouched for all of them.
func (r *snapshotReader) Read(p []byte) (int, error) {
	if r.damage != nil {
		return 0, r.damage
	}
	for len(r.rest) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.nextChunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *snapshotReader) nextChunk() error {
	at := r.at
	var head [8]byte
	if err := r.next(head[:]); err != nil {
		return err
	}
	n, sum := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if n > snapshotChunkBytes {
		return r.damaged(at, "a chunk of %d bytes", n)
	}
	if n == 0 {
		return r.trailer(at, sum)
	}
	if r.chunk == nil {
		r.chunk = make([]byte, snapshotChunkBytes)
	}
	body := r.chunk[:n]
	if err := r.next(body); err != nil {
		return err
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return r.damaged(at, "the checksum of a chunk of %d bytes does not match", n)
	}
	r.bytes += uint64(n)
	r.sum = crc32.Update(r.sum, castagnoli, body)
	r.rest = body
	return nil
}

func (r *snapshotReader) trailer(at int64, sum uint32) error {
	var trail [12]byte
	if err := r.next(trail[:]); err != nil {
		return err
	}
	switch {
	case crc32.Checksum(trail[:], castagnoli) != sum:
		return r.damaged(at, "the trailer's checksum does not match")
	case binary.BigEndian.Uint64(trail[:]) != r.bytes, binary.BigEndian.Uint32(trail[8:]) != r.sum:
		return r.damaged(at, "the trailer speaks of %d bytes, there are %d", binary.BigEndian.Uint64(trail[:]), r.bytes)
	case r.at != r.size:
		return r.damaged(r.at, "%d bytes after the trailer", r.size-r.at)
	}
	r.ended = true
	return nil
}
