package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// What the owner of the data may do, and nobody outside its group: records are their producers' business.
const (
	permFile fs.FileMode = 0o640
	permDir  fs.FileMode = 0o750
)

// OS returns the operating system's files. The value is comparable and holds nothing.
func OS() FS { return osFS{} }

type osFS struct{}

// Open opens a regular file. A directory is refused with EISDIR in every mode, so that a misnamed path fails here and
// not at its first read.
func (osFS) Open(name string, mode Mode) (File, error) {
	flag, err := openFlag(name, mode)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, flag, permFile)
	if err != nil {
		return nil, noSpace(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: unix.EISDIR}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &osFile{f: f}, nil
}

func openFlag(name string, mode Mode) (int, error) {
	switch mode {
	case ReadOnly:
		return os.O_RDONLY, nil
	case ReadWrite:
		return os.O_RDWR, nil
	case Create:
		return os.O_RDWR | os.O_CREATE, nil
	case CreateNew:
		return os.O_RDWR | os.O_CREATE | os.O_EXCL, nil
	default:
		return 0, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("mode %d: %w", mode, fs.ErrInvalid)}
	}
}

func (osFS) Rename(oldname, newname string) error { return noSpace(os.Rename(oldname, newname)) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) MkdirAll(dir string) error { return noSpace(os.MkdirAll(dir, permDir)) }

// List skips entries that vanish while it looks: another owner removed them.
func (osFS) List(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, infoOf(info))
	}
	return infos, nil
}

func (osFS) Stat(name string) (Info, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return infoOf(info), nil
}

func infoOf(info fs.FileInfo) Info {
	if info.IsDir() {
		return Info{Name: info.Name(), IsDir: true}
	}
	return Info{Name: info.Name(), Size: info.Size()}
}

// SyncDir makes the directory's names durable. EINVAL is a file system that has no such call; its names are then as
// durable as it makes them.
func (osFS) SyncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return noSpace(err)
}

// Lock takes flock(2), which belongs to the open file: a second Lock in this process is refused as well, and the kernel
// releases it when the process dies in whatever way.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, permFile)
	if err != nil {
		return nil, noSpace(err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func (osFS) Usage(dir string) (Usage, error) {
	var fsStat unix.Statfs_t
	for {
		err := unix.Statfs(dir, &fsStat)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return Usage{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return Usage{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	// Block counts are in fragments (statfs(2)); a file system that leaves the field 0 means its block size. The
	// conversions are for the architectures where these fields are 32 bits wide.
	unit := uint64(fsStat.Frsize) //nolint:unconvert // int64 or int32 by architecture
	if unit == 0 {
		unit = uint64(fsStat.Bsize) //nolint:unconvert // int64 or int32 by architecture
	}
	return Usage{Total: fsStat.Blocks * unit, Free: fsStat.Bavail * unit, Device: uint64(stat.Dev)}, nil //nolint:unconvert // as above
}

// osFile holds the *os.File and never a bare descriptor: an *os.File that becomes unreachable is closed by the
// collector, and its number is given to the next file.
type osFile struct {
	f *os.File
}

var (
	_ File       = (*osFile)(nil)
	_ Descriptor = (*osFile)(nil)
)

// Fd is valid while the file is reachable and not closed; whoever uses it keeps the File alive until the call returned.
func (f *osFile) Fd() uintptr { return f.f.Fd() }

// ReadAt is pread(2) until p is full or the file ends (io.EOF).
func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// WriteAt is pwrite(2) until all of p is written.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, noSpace(err)
}

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Truncate(size int64) error { return noSpace(f.f.Truncate(size)) }

func (f *osFile) Preallocate(offset, length int64) error {
	err := f.control("fallocate", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, offset, length)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return noSpace(err)
}

func (f *osFile) Sync() error { return noSpace(f.control("fdatasync", unix.Fdatasync)) }

// control runs one system call on the descriptor, which cannot be closed meanwhile, and again if a signal cut it short.
func (f *osFile) control(op string, call func(fd int) error) error {
	raw, err := f.f.SyscallConn()
	if err != nil {
		return &fs.PathError{Op: op, Path: f.f.Name(), Err: err}
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		for {
			callErr = call(int(fd))
			if callErr != unix.EINTR {
				return
			}
		}
	})
	runtime.KeepAlive(f)
	if err != nil {
		// The only reason for which Control does not run its function.
		return &fs.PathError{Op: op, Path: f.f.Name(), Err: fs.ErrClosed}
	}
	if callErr != nil {
		return &fs.PathError{Op: op, Path: f.f.Name(), Err: callErr}
	}
	return nil
}

func (f *osFile) Map(length int64) (Mapping, error) {
	if err := checkMapLength(f.f.Name(), length); err != nil {
		return nil, err
	}
	if length == 0 {
		return newPages(f.f.Name(), nil), nil
	}
	var b []byte
	err := f.control("mmap", func(fd int) (err error) {
		b, err = unix.Mmap(fd, 0, int(length), unix.PROT_READ, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newPages(f.f.Name(), b), nil
}

func (f *osFile) Close() error { return noSpace(f.f.Close()) }

// checkMapLength refuses what an int cannot hold: on 32-bit systems a mapping ends far below a file's greatest length.
func checkMapLength(name string, length int64) error {
	if length < 0 || int64(int(length)) != length {
		return &fs.PathError{Op: "mmap", Path: name, Err: fmt.Errorf("length %d: %w", length, fs.ErrInvalid)}
	}
	return nil
}

// spaceError is an error of the operating system that also is ErrNoSpace. Its text stays the system's.
type spaceError struct{ err error }

func (e *spaceError) Error() string   { return e.err.Error() }
func (e *spaceError) Unwrap() []error { return []error{e.err, ErrNoSpace} }

// noSpace marks what a full device or quota answers.
func noSpace(err error) error {
	if err != nil && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		return &spaceError{err: err}
	}
	return err
}
