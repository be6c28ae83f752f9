package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	node     *memNode
	name     string
	writable bool
	closed   bool // under m.mu
}

var _ File = (*memFile)(nil)

// do runs one operation under the lock, unless the power is off or the file closed, and says what and where it was when
// it fails.
func (f *memFile) do(op string, run func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	err := f.usable()
	if err == nil {
		err = run()
	}
	if err != nil {
		return noSpace(&fs.PathError{Op: op, Path: f.name, Err: err})
	}
	return nil
}

func (f *memFile) usable() error {
	if f.m.crashed {
		return ErrCrashed
	}
	if f.closed {
		return fs.ErrClosed
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	err := f.do("read", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if off < int64(len(f.node.data)) {
			n = copy(p, f.node.data[off:])
		}
		return nil
	})
	if err == nil && n < len(p) {
		return n, io.EOF
	}
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	err := f.do("write", func() (err error) {
		switch {
		case off < 0:
			return syscall.EINVAL
		case !f.writable:
			return syscall.EBADF
		case len(p) == 0:
			return nil
		}
		n, err = f.node.write(p, off)
		return err
	})
	return n, err
}

func (f *memFile) Size() (size int64, err error) {
	err = f.do("stat", func() error {
		size = int64(len(f.node.data))
		return nil
	})
	return size, err
}

func (f *memFile) Truncate(size int64) error {
	return f.do("truncate", func() error {
		if size < 0 || !f.writable {
			return syscall.EINVAL
		}
		return f.node.truncate(size)
	})
}

func (f *memFile) Preallocate(offset, length int64) error {
	return f.do("fallocate", func() error {
		if !f.writable {
			return syscall.EBADF
		}
		if offset < 0 || length <= 0 {
			return syscall.EINVAL
		}
		return f.node.preallocate(offset, length)
	})
}

func (f *memFile) Sync() error {
	err := f.m.sync(f.name, func() error {
		if f.closed {
			return fs.ErrClosed
		}
		f.node.sync()
		return nil
	})
	if err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.name, Err: err}
	}
	return nil
}

func (f *memFile) Map(length int64) (Mapping, error) {
	var mapping *memMapping
	err := f.do("mmap", func() error {
		if err := checkMapLength(f.name, length); err != nil {
			return err
		}
		f.node.opens++
		mapping = &memMapping{m: f.m, node: f.node, name: f.name, length: length}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return mapping, nil
}

func (f *memFile) Close() error {
	return f.do("close", func() error {
		f.closed = true
		f.node.opens--
		f.node.free()
		return nil
	})
}

// memMapping shows the file as it is at each Read, like MAP_SHARED.
type memMapping struct {
	m      *Mem
	node   *memNode
	name   string
	length int64
	closed bool // under m.mu
}

var _ Mapping = (*memMapping)(nil)

func (m *memMapping) Len() int64 { return m.length }

func (m *memMapping) Read(f func(b []byte)) error {
	data, err := m.look()
	if err != nil {
		return &fs.PathError{Op: "read mapping", Path: m.name, Err: err}
	}
	if m.length <= roundBlocks(int64(len(data))) {
		// The capacity is whole blocks and zero beyond the length, like the last page of a file.
		f(data[:m.length:m.length])
		return nil
	}
	return m.readBeyond(data, f)
}

func (m *memMapping) look() ([]byte, error) {
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if m.m.crashed {
		return nil, ErrCrashed
	}
	if m.closed {
		return nil, fs.ErrClosed
	}
	return m.node.data, nil
}

// readBeyond is for a mapping longer than its file: what lies beyond the last block must fault, and nothing but the
// machine's own memory protection sees every access. So f gets a copy in front of pages that cannot be read.
func (m *memMapping) readBeyond(data []byte, f func(b []byte)) error {
	b, err := unix.Mmap(-1, 0, int(m.length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mapping of %s, %d bytes: %w", m.name, m.length, err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if len(data) > 0 {
		if err := unix.Mprotect(b[:roundBlocks(int64(len(data)))], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return fmt.Errorf("mapping of %s, %d of %d bytes: %w", m.name, len(data), m.length, err)
		}
		copy(b, data)
	}
	return guard(m.name, b, f)
}

func (m *memMapping) Close() error {
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if m.closed {
		return &fs.PathError{Op: "close mapping", Path: m.name, Err: fs.ErrClosed}
	}
	m.closed = true
	m.node.opens--
	m.node.free()
	return nil
}
