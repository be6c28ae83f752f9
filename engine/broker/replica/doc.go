// Package replica owns the partitions of a box. A shard is a mailbox and a Step that owns the rules (partition.State)
// and the log (seglog.Log) of many partitions; there are a few shards for each CPU and none for a partition, so that an
// idle partition costs no goroutine and no timer. What a shard changed it publishes as an immutable View, which fetches
// read without asking.
//
// Paths: an append is validated, stamped and written with its neighbours in one write, parked, and answered when the
// flush that covers it has come back from the syncer. A long poll is parked as a Waiter until the view has moved.
//
// The package starts no goroutine of its own (mailbox does), and must not know what a topic's settings or the catalog
// are: the topics room tells it what to open and when to lead.
package replica
