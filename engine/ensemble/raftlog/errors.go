package raftlog

import (
	"errors"
	"fmt"
	"path"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrCorrupt means that durable bytes are not what was written. It is never repaired silently: the box must rejoin by
	// snapshot or be restored. The concrete error is a CorruptError.
	ErrCorrupt = errors.New("corrupt")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("raft log closed")
	// ErrTooLarge refuses a payload that is longer than Config.PayloadBytesMax.
	ErrTooLarge = errors.New("payload too large")
)

// CorruptError says where the damage is.
type CorruptError struct {
	Dir, File string
	Position  int64 // byte in File, -1 when the file as a whole is meant
	Reason    string
}

func (e *CorruptError) Error() string {
	if e.Position < 0 {
		return fmt.Sprintf("%s: corrupt: %s", path.Join(e.Dir, e.File), e.Reason)
	}
	return fmt.Sprintf("%s: corrupt at byte %d: %s", path.Join(e.Dir, e.File), e.Position, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
