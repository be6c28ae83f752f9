// Package compact is log compaction as Kafka has it (cleanup.policy=compact; org.apache.kafka's LogCleaner, Cleaner and
// LogCleanerManager): which part of a log is due, which records stay, and one pass over a log's segments.
//
// It exists to keep the latest record of each key, and nothing that a later one has replaced, while offsets, their order
// and what the log knows of producers and transactions stay as they are.
//
// A Pass is driven in small steps by whoever owns it, on one goroutine at a time: it reads sealed segments of a View, and
// writes segments beside them. It changes no log: a segment that is ready is put in place by the log's own owner. The
// package starts no goroutine, waits for nothing but the disk, and reads no clock. It must not know what a topic or a
// replica is.
//
// # The rules
//
// The dirty part reaches from where the last pass ended (cleaner-offset-checkpoint) to the first segment that is active,
// not wholly below the last stable offset and on stable storage, or younger than min.compaction.lag.ms. A log is due when the dirty part is more
// than min.cleanable.dirty.ratio of clean and dirty, or older than max.compaction.lag.ms.
//
// A pass (1) reads the keys of the dirty part, as far as they fit into an OffsetMap, and (2) rewrites the segments from the
// log's start to there, small neighbours into one. A record goes when the map knows a later one of its key, when it has no key,
// or when it was aborted; beyond the map's end every record stays, undated. A record without value (a tombstone) stays until
// delete.retention.ms after the pass that first kept it as the latest of its key; that time is stored in the batch (KIP-534). A
// marker of a transaction does the same once no record of the transaction is left. The last batch of each producer stays, without records if
// need be, and so does the last batch of each segment: where one segment ends the next begins.
//
// A batch that cannot be unpacked within limits stays whole, and its records replace nothing. A damaged one ends the pass. So does a cut of the log:
// the records for whose sake others go may be gone themselves.
package compact
