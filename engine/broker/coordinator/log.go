package coordinator

import "errors"

// ErrNotLeader is what a Log's methods return, or wrap, when this box does not lead the partition in the epoch asked
// for. Any other error means that the partition is there and something is wrong with it.
var ErrNotLeader = errors.New("not the leader of the group partition")

// View is where a partition stands.
type View struct {
	// Start is the first offset, End the offset after the last record, Committed the high watermark.
	Start, End, Committed int64
}

// Log is one partition of __consumer_offsets as its coordinator needs it. ReplicaLog makes one of a replica; tests have
// one in memory. Its methods are called from the owner and from the goroutine that loads.
type Log interface {
	// View reports the partition's offsets while this box leads it in epoch.
	View(epoch int32) (View, error)
	// Read returns bytes from the batch that holds offset on: at least that whole batch, and up to about bytesMax; the
	// last batch may be cut off. buf is used if it is large enough. It may block on the disk.
	Read(offset int64, bytesMax int, buf []byte) ([]byte, error)
	// Append hands over whole batches, which must stay untouched until done, for an append in that leader epoch alone.
	// It does not block. done is called exactly once, from any goroutine or within Append, when the high watermark has
	// passed the batches or the append has failed; it only posts.
	Append(batches []byte, epoch int32, done func(error))
}
