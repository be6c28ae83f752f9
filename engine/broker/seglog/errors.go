package seglog

import (
	"errors"
	"fmt"

	"cairn/platform/vfs"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrFull means that the device, or what may be used of it, is full. Nothing was written; the same append may be
	// tried again when space has been freed.
	ErrFull = errors.New("log directory full")
	// ErrCorrupt means damage in bytes that are vouched for. Every such error is a *CorruptionError.
	ErrCorrupt = errors.New("corrupt log")
	// ErrFailed means that the log directory has failed: a write, a flush or a read was answered with an error that is not
	// a lack of space. It is final until the process starts again.
	ErrFailed = errors.New("log directory failed")
	// ErrOutOfRange means an offset below the log's start or beyond its end, or one that has been truncated or deleted
	// since the view was taken: a newer view decides.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrClosed means that the log or its directory was closed or deleted.
	ErrClosed = errors.New("log closed")
	// ErrExist is returned by Create for a partition that is there, and by Open for one that is open.
	ErrExist = errors.New("partition directory exists")
	// ErrNotExist is returned by Open for a partition that is not there.
	ErrNotExist = errors.New("no such partition directory")
	// ErrInvalid means that the caller broke a rule: batches out of order, not whole, or over a limit.
	ErrInvalid = errors.New("invalid append")
	// ErrForeign is returned by OpenDir for a directory of another cluster, node or format.
	ErrForeign = errors.New("log directory belongs to another")
)

// syncError is what a sync was answered with. Dir.check makes it the end of the directory, whatever it speaks of: the pages
// that it was about may be gone, and another sync would be told that all is well.
type syncError struct{ cause error }

func (e *syncError) Error() string { return "sync: " + e.cause.Error() }

func (e *syncError) Unwrap() error { return e.cause }

// synced is the outcome of a sync.
func synced(err error) error {
	if err == nil {
		return nil
	}
	return &syncError{err}
}

// syncDir makes the names in a directory durable.
func syncDir(fs vfs.FS, name string) error { return synced(fs.SyncDir(name)) }

// CorruptionError names the damage. It is ErrCorrupt.
type CorruptionError struct {
	File     string // path of the file
	Position int64  // byte at which the damage begins
	Err      error  // what is wrong there
}

// Error names file and position.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("corrupt log: %s at byte %d: %v", e.File, e.Position, e.Err)
}

// Is makes every corruption ErrCorrupt.
func (e *CorruptionError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns what is wrong at the position.
func (e *CorruptionError) Unwrap() error { return e.Err }
