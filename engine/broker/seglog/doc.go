// Package seglog is the partition log: record batches in segment files of Apache Kafka's formats, one directory per
// partition, many of them in one log directory on one device.
//
// It exists to keep what was acknowledged: what a Flush has reported is on stable storage, what a crash left behind it is
// cut at the first batch that is not whole, and a device that fails or is full is reported and never papered over.
// FORMAT.md beside this file has the byte diagrams, the order of writes and the recovery.
//
// A Log has one writer, its owner, whose goroutine calls every method of Log that changes it. Readers on any goroutine
// use a View, an immutable snapshot, and hold Spans, which keep their bytes readable. Flushes run on the syncer's
// goroutines. The package starts no goroutine and no timer, and reads no clock.
//
// It must not know what a producer, a transaction or a replica is: producer state is an opaque blob, aborted
// transactions are rows that it is given, and the bound up to which something may be deleted is the caller's.
package seglog
