// Package raftlog keeps the ensemble's log and its snapshots on a disk that may lose power at any moment. It wraps
// github.com/tidwall/wal, whose own records carry no checksum and whose Open takes a zero-filled tail for records and a
// torn one for the end of the world: every record is a typed frame with a checksum and a sequence of its own, segments are
// validated and repaired by our own reader before the library sees them, names are made durable by directory flushes, and
// the first error is the last word. FORMAT.md has the bytes, the assumptions, the write order and the recovery.
//
// It starts no goroutine. Append, MarkSnapshot and the snapshot writer belong to their callers; Flush is a job for the
// device's syncer and is the only thing that touches the library after Open. The package must not know what an entry
// means, and knows nothing of the raft library: the structs here are its whole vocabulary.
package raftlog
