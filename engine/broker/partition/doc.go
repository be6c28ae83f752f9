// Package partition is the rules of one partition, as its leader and its followers keep them: which batches of an idempotent
// or transactional producer may be appended, which transactions are open, what is acknowledged and what a reader may see,
// who is in sync, and where a follower cuts its log.
//
// It is pure: no I/O, no clock, no goroutine, no lock. The replica room owns a State for each partition and is the only
// one to call it. The package must not know how bytes are stored; it is told offsets and headers.
package partition
