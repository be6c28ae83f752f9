// Package ensemble is the owner of the raft loop: one goroutine (a mailbox and a Step) that proposes, appends, applies and
// answers, and beside it the tree under the engine's one read-write lock.
//
// A write is handed over by Propose, stamped with the leader's time, gathered for a moment with those of others
// (gather.go), appended to the raft log, flushed by the device's syncer together with everything that arrived meanwhile,
// and applied under the write lock, once per committed batch: for each entry the tree changes, the watches of this box's
// connections fire into their outboxes, the subscribers are told, and the completion is called, in this order, so that no
// reply can show a state whose event is not queued before
// it. Reads happen in View, under the read lock, which covers look-up, registration of a watch and queueing of the reply.
//
// A box that does not lead hands its writes to the leader in a stream whose order is kept (forward.go); each is completed
// where it came from, when that box applies it. While there is no leader for the length of an election, writes wait and
// reads go on; after that the clients are sent away. A box that lags beyond the log in memory is brought a snapshot's
// file and goes on from it (install.go).
//
// Who belongs to the ensemble is text in the tree (package quorum): the configuration, which clients change by reconfig, and
// the roster of raft ids and disks. The leader lets raft's membership follow, one safe step at a time (members.go). A box
// with an empty directory asks the others how it stands before it takes part (join.go, answer.go), and one with a log asks
// what it has acknowledged before it votes (promise.go): a raft id belongs to one disk and is never used again.
//
// Boxes of different builds are one ensemble: each tells the leader which rules it can run, and the leader raises those of
// the tree once every member can (state.go). A box that knows fewer rules than the tree stops. Should trees differ
// all the same, a comparison of digests finds the box that is wrong (digest.go), which serves no more until it has gone on
// from the leader's tree (exchange.go).
//
// Here live also what belongs to this box and not to the tree: which connection holds a session, watches, subscribers,
// read indexes that wait, snapshots that are being written. Session expiry and reaping are decided by package keeper on
// the leader and proposed like any other write.
//
// The package must not know sockets or the client protocol's frames (zkserver does), nor anything of the broker. It is
// the only one that imports the raft library.
package ensemble
