// Package replica owns the partitions of a box. A shard is a mailbox and a Step that owns the rules (partition.State)
// and the log (seglog.Log) of many partitions; there are a few shards for each CPU and none for a partition, so that an
// idle partition costs no goroutine and no timer. What a shard changed it publishes as an immutable View, which fetches
// read without asking.
//
// Paths: an append is validated, stamped and written with its neighbours in one write, parked, and answered when the
// flush that covers it has come back from the syncer, and, with acks=all, when every replica in sync has vouched for it. A
// long poll is parked as a Waiter until the view has moved.
//
// A follower asks its leader from its Position; the leader's View answers (copy.go) with what comes next, or where the two logs
// part; the follower copies or cuts, flushes, and its view says how far it vouches. What a follower has vouched for, and never
// where it fetches, moves the leader's high watermark. Who carries questions, answers and vouchers is not this room's.
// A leader looks at its partition at every tick until all that are in sync have vouched for its end in its epoch, or their leaving was
// proposed; then the partition rests.
//
// The package starts no goroutine of its own (mailbox does), and must not know what a topic's settings or the catalog
// are: the topics room tells it what to open and when to lead.
package replica
