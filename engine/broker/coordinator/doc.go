// Package coordinator owns the consumer groups of the partitions of __consumer_offsets that this box leads. It is an
// owner: a mailbox and a Step over the pure rules of package group, one for all partitions of the box.
//
// A request becomes a step of its group at once and records to append. Records that come while an append is under way
// share the next one. An answer leaves when the batch that it rests on is behind the high watermark. If an append fails,
// all that is in memory of that partition is thrown away, everybody who waits is told to try again, and the partition is
// replayed: the log wins, whether the append is in it or not. A partition that this box begins to lead is read from its
// start in chunks, off the owner; requests meanwhile are answered COORDINATOR_LOAD_IN_PROGRESS.
//
// The mailbox's runtime drives it. The package knows neither sockets nor the catalog: which partitions are led, which
// topics were deleted and what the settings are it is told by engine/node. Client ids, members' bytes and the log's
// records are hostile and bounded by limits.Group.
package coordinator
