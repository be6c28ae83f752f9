package vfs

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// A file appears whole or not at all, whatever is there, and durable.
func TestReplaceFile(t *testing.T) {
	mem := NewMem()
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(mem, "/d/f", []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the source is gone")
	if err := ReplaceFile(mem, "/d/f", func(w io.Writer) error {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			return err
		}
		return broken
	}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if b, err := ReadFile(mem, "/d/f", 1<<20); err != nil || string(b) != "old" {
		t.Errorf("%.20q, %v", b, err)
	}
	if infos, err := mem.List("/d"); err != nil || len(infos) != 1 {
		t.Errorf("%v, %v", infos, err)
	}
	if err := ReplaceFile(mem, "/d/f", func(w io.Writer) error { _, err := w.Write([]byte("new")); return err }); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(mem, "/d/f", 1<<20); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
}
