package vfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
)

// WriteFile makes a file of these bytes appear whole, as ReplaceFile does.
func WriteFile(fs FS, name string, b []byte) error {
	return ReplaceFile(fs, name, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// ReplaceFile makes a file appear under its name whole and durable, or not at all: it is written beside, flushed, renamed, and
// the directory flushed. A file of that name is replaced.
func ReplaceFile(fs FS, name string, write func(w io.Writer) error) error {
	temp := name + ".tmp"
	f, err := fs.Open(temp, Create)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = fill(f, write)
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(temp, name)
	}
	if err != nil {
		_ = fs.Remove(temp) // what is left of it is not the file
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := fs.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func fill(f File, write func(w io.Writer) error) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	w := bufio.NewWriterSize(Appender(f), 256<<10)
	if err := write(w); err != nil {
		return err
	}
	return errors.Join(w.Flush(), f.Sync())
}

// Appender is a writer at the end of a file that is empty.
func Appender(f File) io.Writer { return &appender{f: f} }

type appender struct {
	f  File
	at int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.f.WriteAt(p, a.at)
	a.at += int64(n)
	return n, err
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
