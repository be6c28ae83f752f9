package raftlog

import (
	"errors"
	"fmt"
	"io"
	"path"

	"cairn/platform/vfs"
)

// A snapshot travels between boxes as the bytes of its file, so that the checksums of the box that wrote it are those that
// the box that installs it has checked.

// SnapshotSource is the file of one snapshot, open for being sent. The file may be removed meanwhile.
type SnapshotSource struct {
	// Size in bytes of all that Read gives.
	Size int64
	file vfs.File
	at   int64
}

// OpenSnapshot opens the newest whole snapshot at index, one of Snapshots, for being sent.
func (l *Log) OpenSnapshot(index uint64) (*SnapshotSource, error) {
	f, err := l.deps.FS.Open(path.Join(l.snapDir, snapshotName(index)), vfs.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %d to send it: %w", index, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of snapshot %d: %w", index, err), f.Close())
	}
	return &SnapshotSource{Size: size, file: f}, nil
}

// Read implements io.Reader.
func (s *SnapshotSource) Read(p []byte) (int, error) {
	if s.at >= s.Size {
		return 0, io.EOF
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.Size-s.at)], s.at)
	s.at += int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// Close lets go of the file.
func (s *SnapshotSource) Close() error { return s.file.Close() }

// receivedSuffix is what a snapshot is called that is being received: removed at the next Open, as one being written is.
const receivedSuffix = ".received" + snapshotTemp

// ReceiveSnapshot reads size bytes, the file of another box's snapshot at index, checks them while restore reads what is
// in them, and keeps the file. Nothing is kept after an error. The log goes on from it once MarkSnapshot is told; until
// then a restart may or may not find it. It may run beside every other method, one call at a time.
func (l *Log) ReceiveSnapshot(index uint64, size int64, from io.Reader, restore func(SnapshotMeta, io.Reader) error) (SnapshotMeta, error) {
	temp := path.Join(l.snapDir, fmt.Sprintf("%0*d%s", segmentDigits, index, receivedSuffix))
	m, err := l.receive(temp, index, size, from, restore)
	if err == nil {
		err = l.admit(temp, m.SnapshotID)
	}
	if err != nil {
		l.discard(temp)
		return m, fmt.Errorf("receive the snapshot at index %d of %d bytes: %w", index, size, err)
	}
	return m, nil
}

func (l *Log) receive(temp string, index uint64, size int64, from io.Reader, restore func(SnapshotMeta, io.Reader) error) (m SnapshotMeta, err error) {
	if l.isClosed() {
		return m, ErrClosed
	}
	f, err := l.deps.FS.Open(temp, vfs.Create)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(0); err != nil {
		return m, err
	}
	buffer := make([]byte, snapshotChunkBytes)
	for at := int64(0); at < size; {
		n, err := io.ReadFull(from, buffer[:min(int64(len(buffer)), size-at)])
		if err != nil {
			return m, fmt.Errorf("after %d bytes: %w", at+int64(n), err)
		}
		if _, err := f.WriteAt(buffer[:n], at); err != nil {
			return m, err
		}
		at += int64(n)
	}
	r := &snapshotReader{dir: l.snapDir, name: path.Base(temp), file: f, size: size}
	if m, err = r.head(); err != nil {
		return m, err
	}
	if m.Index != index {
		return m, r.damaged(0, "it says that it was taken at index %d", m.Index)
	}
	if err := restore(m, r); err != nil {
		return m, errors.Join(r.damage, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what restore left unread, and the trailer
		return m, err
	}
	return m, f.Sync()
}
