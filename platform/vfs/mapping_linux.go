package vfs

import (
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages is a memory mapping. Reads in progress hold it, so that Close unmaps after the last of them: an access to an
// unmapped address could hit whatever was mapped there next.
type pages struct {
	name string
	b    []byte
	// refs counts Reads in progress, and one for not being closed. At zero the memory is unmapped.
	refs   atomic.Int64
	closed atomic.Bool
}

var _ Mapping = (*pages)(nil)

func newPages(name string, b []byte) *pages {
	m := &pages{name: name, b: b}
	m.refs.Store(1)
	return m
}

func (m *pages) Len() int64 { return int64(len(m.b)) }

// Read returns fs.ErrClosed after Close.
func (m *pages) Read(f func(b []byte)) error {
	if !m.acquire() {
		return &fs.PathError{Op: "read mapping", Path: m.name, Err: fs.ErrClosed}
	}
	// Deferred, so that a panic of f's own does not leave the memory mapped.
	defer func() { _ = m.release() }()
	return guard(m.name, m.b, f)
}

// Close unmaps once no Read runs. A second Close returns fs.ErrClosed.
func (m *pages) Close() error {
	if m.closed.Swap(true) {
		return &fs.PathError{Op: "close mapping", Path: m.name, Err: fs.ErrClosed}
	}
	return m.release()
}

func (m *pages) acquire() bool {
	for {
		n := m.refs.Load()
		if n == 0 || m.closed.Load() {
			return false
		}
		if m.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (m *pages) release() error {
	if m.refs.Add(-1) != 0 || m.b == nil {
		return nil
	}
	if err := unix.Munmap(m.b); err != nil {
		return &fs.PathError{Op: "munmap", Path: m.name, Err: err}
	}
	return nil
}

// guard runs f on mapped bytes and turns a fault (SIGBUS: the page cannot be brought in) within them into ErrFault.
// Without it a fault kills the process. The setting belongs to the goroutine and is put back as it was. Whatever else
// f panics with goes on.
func guard(name string, b []byte, f func(b []byte)) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		r := recover()
		if r == nil {
			return
		}
		if position, ok := faultPosition(r, b); ok {
			err = fmt.Errorf("mapping of %s at position %d: %w", name, position, ErrFault)
			return
		}
		panic(r)
	}()
	f(b)
	return nil
}

// faultPosition says where in b a recovered fault happened, and whether it was there.
func faultPosition(recovered any, b []byte) (int64, bool) {
	// The runtime's fault error has an Addr method (runtime/debug.SetPanicOnFault).
	fault, ok := recovered.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok || len(b) == 0 {
		return 0, false
	}
	base := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	if fault.Addr() < base || fault.Addr()-base >= uintptr(len(b)) {
		return 0, false
	}
	return int64(fault.Addr() - base), true
}
