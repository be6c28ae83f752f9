package carry

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cairn/engine/ensemble/zkdata"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// Reader reads a file from its begin.
func Reader(f vfs.File) (io.Reader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, size), nil
}

// Write writes a backup as a stream.
func Write(w io.Writer, b *znode.Backup) error {
	cut, err := b.Cut()
	if err != nil {
		return err
	}
	defer cut.Close()
	return cut.CopyTo(w, 64<<10)
}

// ErrUnknown is wrapped by Read's error for a stream that is neither a backup nor a snapshot of ZooKeeper.
var ErrUnknown = errors.New("neither a backup of cairn nor a snapshot of ZooKeeper")

// Read reads a backup, or a snapshot of ZooKeeper, by what it begins with; the latter also packed with gzip. The bound is on
// memory, in bytes, and 0 is none. A backup that is damaged, cut short or no tree wraps znode.ErrSnapshot or zkdata.ErrDamaged, one beyond
// the bound znode.ErrTooLarge or zkdata.ErrTooLarge.
func Read(r io.Reader, bytesMax int64) (*znode.Backup, Report, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(len(znode.BackupMagic))
	switch {
	case string(magic) == znode.BackupMagic:
		backup, err := znode.ReadBackup(b, bytesMax)
		if err != nil {
			return nil, Report{}, err
		}
		return backup, Report{Zxid: backup.Zxid(), Nodes: backup.Nodes(), Ephemerals: backup.Ephemerals()}, nil
	case bytes.HasPrefix(magic, []byte(zkdata.SnapshotMagic)):
		return readSnapshot(b, bytesMax)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unpacked, err := gzip.NewReader(b)
		if err != nil {
			return nil, Report{}, fmt.Errorf("%w: %w", zkdata.ErrDamaged, err)
		}
		return readSnapshot(unpacked, bytesMax)
	}
	return nil, Report{}, fmt.Errorf("%w: it begins with %q", ErrUnknown, magic)
}

func readSnapshot(r io.Reader, bytesMax int64) (*znode.Backup, Report, error) {
	t, err := zkdata.ReadSnapshot(r, bytesMax)
	if err != nil {
		return nil, Report{}, err
	}
	return fromTree(t, Report{})
}

// Frames gives the payloads of a backup's frames, for Ensemble.Restore, from a stream that Read has found whole.
func Frames(r io.Reader) func() ([]byte, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	began := false
	return func() ([]byte, error) {
		if !began {
			began = true
			if _, err := b.Discard(len(znode.BackupMagic)); err != nil {
				return nil, fmt.Errorf("read a backup: %w", err)
			}
		}
		var head [8]byte
		if _, err := io.ReadFull(b, head[:]); err == io.EOF {
			return nil, io.EOF
		} else if err != nil {
			return nil, fmt.Errorf("read a backup: %w", err)
		}
		length := binary.LittleEndian.Uint32(head[:])
		if length > znode.FrameMax {
			return nil, fmt.Errorf("read a backup: a frame of %d bytes: %w", length, znode.ErrSnapshot)
		}
		var payload bytes.Buffer
		if _, err := io.CopyN(&payload, b, int64(length)); err != nil {
			return nil, fmt.Errorf("read a backup: a frame of %d bytes: %w", length, err)
		}
		return payload.Bytes(), nil
	}
}
