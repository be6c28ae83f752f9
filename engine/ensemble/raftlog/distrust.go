package raftlog

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"cairn/platform/vfs"
)

// distrustedName is the file in the directory of the snapshots that says: the tree in them is not the one that the log makes.
const distrustedName = "distrusted"

// Distrust notes, durably, that the tree of this box, which its snapshots hold, is not what the log makes of it. The next
// Open reports it (Recovered.Distrusted) until Trust is told which snapshot is right. The log itself is not in doubt.
func (l *Log) Distrust() error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if l.isClosed() {
		return ErrClosed
	}
	if err := l.makeDistrusted(); err != nil {
		return fmt.Errorf("note that the snapshots are not to be trusted: %w", err)
	}
	return nil
}

func (l *Log) makeDistrusted() error {
	f, err := l.deps.FS.Open(path.Join(l.snapDir, distrustedName), vfs.Create)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return l.deps.FS.SyncDir(l.snapDir)
}

// distrusted tells whether Distrust was told and Trust was not.
func (l *Log) distrusted() (bool, error) {
	_, err := l.deps.FS.Stat(path.Join(l.snapDir, distrustedName))
	if errors.Is(err, vfs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Trust says that the snapshot at index, one of Snapshots, is right, whatever Distrust said. Every other one is set aside
// first, as a damaged one is, so that no start falls back to it. After an error the next Open may still be distrustful.
func (l *Log) Trust(index uint64) error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if l.isClosed() {
		return ErrClosed
	}
	if err := l.removeDamaged(); err != nil {
		return fmt.Errorf("remove what was set aside earlier: %w", err)
	}
	for _, s := range l.Snapshots() {
		if s.Index == index {
			continue
		}
		if err := l.setAside(s.Index); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return fmt.Errorf("set a snapshot aside that is not to be trusted: %w", err)
		}
		l.forget(s.Index)
	}
	err := l.deps.FS.SyncDir(l.snapDir)
	if err == nil {
		err = l.deps.FS.Remove(path.Join(l.snapDir, distrustedName))
	}
	if err == nil {
		err = l.deps.FS.SyncDir(l.snapDir)
	}
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return fmt.Errorf("note that snapshot %s is to be trusted: %w", snapshotName(index), err)
	}
	return nil
}

// setAside renames a snapshot so that no start takes it.
func (l *Log) setAside(index uint64) error {
	to := fmt.Sprintf("%0*d%s", segmentDigits, index, snapshotDamaged)
	return l.deps.FS.Rename(path.Join(l.snapDir, snapshotName(index)), path.Join(l.snapDir, to))
}

// removeDamaged makes room for others to be set aside: they must not fill the disk.
func (l *Log) removeDamaged() error {
	infos, err := l.deps.FS.List(l.snapDir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if !strings.HasSuffix(info.Name, snapshotDamaged) {
			continue
		}
		if err := l.deps.FS.Remove(path.Join(l.snapDir, info.Name)); err != nil {
			return err
		}
	}
	return nil
}

// forget takes a snapshot out of those that are kept.
func (l *Log) forget(index uint64) {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	for i, s := range l.good {
		if s.Index == index {
			l.good = append(append([]SnapshotID(nil), l.good[:i]...), l.good[i+1:]...)
			return
		}
	}
}
