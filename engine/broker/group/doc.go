// Package group holds the rules of Kafka's consumer groups: the classic group protocol (JoinGroup, SyncGroup, Heartbeat,
// LeaveGroup, with static members, KIP-345, and known member ids, KIP-394), committed offsets, their expiry, and the
// records in __consumer_offsets that both are kept in. Its names and its answers are those of ClassicGroup,
// GroupMetadataManager and OffsetMetadataManager of Apache Kafka.
//
// A Groups is all groups of one partition of __consumer_offsets. It is pure: Step takes a request and a reading of the
// clock and changes the state at once; what must happen outside comes back as data. Records are gathered into numbered
// batches that the owner appends; a Reply says after which batch it may be sent, so that nobody is told what a power cut
// could take back. Waiting joins and syncs are parked data. If an append fails the owner throws the Groups away and
// replays the log, which wins.
//
// Nobody owns a goroutine here. The package must not do I/O, read a clock, draw random numbers or lock anything, and it
// takes every byte of a request or a record for hostile. Whether an assignment is eager or cooperative is the clients'
// business; of their metadata only the subscribed topics are read.
package group
