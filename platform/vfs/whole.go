package vfs

import (
	"errors"
	"fmt"
	"io"
	"path"
)

// WriteFile makes a small file appear whole and durable under its name, or leaves what was there: written beside, flushed
// and renamed.
func WriteFile(fs FS, name string, b []byte) error {
	f, err := fs.Open(name+".tmp", Create)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(name+".tmp", name); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(name))
}

// ReadFile reads a small file of at most bytesMax bytes.
func ReadFile(fs FS, name string, bytesMax int64) ([]byte, error) {
	f, err := fs.Open(name, ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > bytesMax {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, size, bytesMax)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
