// Package batch is the vocabulary of Kafka's record batches, format v2 (magic 2, KIP-98): the 61-byte header, its CRC-32C,
// the records behind it, control markers, and the four codecs. Everything works on byte slices that the caller owns and
// nothing keeps them: a parsed Header is a copy, a Record's key and value point into the batch that was walked.
//
// It exists so that a produced batch can be checked and stamped in place, and never opened: base offset and partition
// leader epoch lie outside the CRC. Only LogAppendTime, look-ups by timestamp, compaction and tools look inside.
//
// The package is pure: no I/O, no clock, no goroutine, no global state. It must not know what a producer, a partition or
// a transaction is. Every byte it is given may be hostile.
package batch
