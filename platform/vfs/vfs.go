package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// Errors that callers tell apart with errors.Is. Everything else that a file system returns is passed on as it is.
var (
	// ErrNotExist is returned for a name that is not there. It is fs.ErrNotExist.
	ErrNotExist = fs.ErrNotExist
	// ErrExist is returned by Open with CreateNew for a name that is there. It is fs.ErrExist.
	ErrExist = fs.ErrExist
	// ErrNoSpace is what a full device or quota answers to a write or a preallocation (ENOSPC, EDQUOT). Nothing was
	// promised: the caller cuts its tail back and refuses the append.
	ErrNoSpace = errors.New("no space left on device")
	// ErrLocked is returned by Lock when another process holds the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrFault is what a mapped access returns when the page could not be brought in (SIGBUS): the file is shorter
	// than the mapping, or the device failed. The log directory that holds the file has failed.
	ErrFault = errors.New("mapped page could not be read")
)

// Mode says how Open treats the name.
type Mode int

const (
	// ReadOnly opens a file that must exist.
	ReadOnly Mode = iota
	// ReadWrite opens a file that must exist for reading and writing.
	ReadWrite
	// Create opens for reading and writing and makes an empty file where there is none.
	Create
	// CreateNew makes an empty file and fails with ErrExist where there is one.
	CreateNew
)

// Info is one directory entry.
type Info struct {
	Name  string // base name
	Size  int64  // bytes; 0 for directories
	IsDir bool
}

// Usage is what a device has and has left, in bytes, for an unprivileged writer.
type Usage struct {
	Total, Free uint64
	// Device tells devices apart: two directories with equal Device share one queue of flushes.
	Device uint64
}

// FS is a file system given to a room at construction. Names are slash-separated paths. All methods may be called from
// any goroutine.
//
// Durability: bytes written to a file are durable after File.Sync returned nil; a created, renamed or removed name is
// durable after SyncDir of its directory returned nil. Nothing else is promised, and the crashable memory file system
// takes away whatever was not promised.
type FS interface {
	Open(name string, mode Mode) (File, error)
	// Rename replaces newname atomically if it exists.
	Rename(oldname, newname string) error
	// Remove unlinks a file or an empty directory. Open files and mappings keep the inode.
	Remove(name string) error
	MkdirAll(dir string) error
	// List returns the entries of dir sorted by name.
	List(dir string) ([]Info, error)
	Stat(name string) (Info, error)
	SyncDir(dir string) error
	// Lock takes an exclusive advisory lock on the file, creating it; ErrLocked when another holds it. Close releases.
	Lock(name string) (io.Closer, error)
	Usage(dir string) (Usage, error)
}

// File is an open file. ReadAt, WriteAt and Sync may be called concurrently; the caller orders writes that overlap.
type File interface {
	io.ReaderAt
	// WriteAt writes all of p or returns an error; after an error any prefix of p may be in the file.
	io.WriterAt
	Size() (int64, error)
	// Truncate sets the length; preallocated space beyond it is released.
	Truncate(size int64) error
	// Preallocate reserves [offset, offset+length) on the device without changing the file's length
	// (FALLOC_FL_KEEP_SIZE); where the file system cannot, it does nothing.
	Preallocate(offset, length int64) error
	// Sync makes data and length durable (fdatasync). An error is final: the kernel may have dropped the dirty pages,
	// so nobody retries.
	Sync() error
	// Map maps the first length bytes read-only. The mapping stays valid after Close and Remove, until Mapping.Close.
	Map(length int64) (Mapping, error)
	Close() error
}

// Mapping is a read-only memory mapping behind a fault guard.
type Mapping interface {
	// Len is the mapped length in bytes.
	Len() int64
	// Read calls f with the mapped bytes. The slice must not outlive the call. A page that cannot be brought in makes
	// Read return ErrFault instead of killing the process.
	Read(f func(b []byte)) error
	Close() error
}

// Descriptor is implemented by files of the operating system; sockio needs it for sendfile. The descriptor stays valid
// while the File is reachable and not closed.
type Descriptor interface {
	Fd() uintptr
}
