// Package engine holds the rooms of one cairn box and no code of its own. This page is what a newcomer reads first.
//
// # The rooms
//
// Two wings on one ground floor. The ensemble wing is everything ZooKeeper, the broker wing everything Kafka; neither
// imports the other. engine/node assembles one whole box from a Config and its Deps, and adapts the tree of the one to
// the needs of the other.
//
//	node                    one box, assembled: start order, stop in reverse; wiring only
//	limits                  every maximum, by name
//	invariant               what must be true
//	sim                     N whole boxes, one seed, faults; sim/history: what clients saw, and its rules; tests only
//	link                    bytes between boxes, one handler per protocol
//	console                 HTTP: /metrics, /healthz, /readyz, /commands, /cluster, /rebalance
//
//	ensemble                owner of the raft loop: propose, apply, read index, sessions, watches, snapshots
//	ensemble/jute           ZooKeeper's records on the wire
//	ensemble/znode          the tree: pure, deterministic
//	ensemble/quorum         who belongs: the configuration, the roster of raft ids, the next safe change; pure
//	ensemble/keeper         what a leader keeps in order: sessions, containers, TTLs; pure
//	ensemble/raftlog        entries and snapshots on disk
//	ensemble/zkdata         ZooKeeper's snapshots and transaction logs, read and written
//	ensemble/carry          trees in and out: backups as files, ZooKeeper's data made into them and back
//	ensemble/zkserver       sockets on :2181; zkadmin: four-letter words and their JSON; zoocfg: ZooKeeper's own file
//
//	broker                  the wing's own map
//	broker/batch            Kafka's record batches
//	broker/wire             Kafka's frames, checked before they are decoded
//	broker/seglog           a partition's log on disk
//	broker/compact          what stays of a compacted log, and the pass over its segments
//	broker/partition        a partition's rules: producers, epochs, high watermark, who is in sync; pure
//	broker/replica          owner of the partitions, in shards: leaders and followers
//	broker/fetcher          owner of what this box follows: whom it asks, what it vouches for
//	broker/remote           asks other boxes' brokers in Kafka's protocol, for the fetcher
//	broker/topics           owner of the log directories: opens, leads, retains and deletes what the catalog says
//	broker/catalog          what the znodes under /cairn/kafka say, as immutable snapshots; pure
//	broker/controller       owner of the cluster's decisions, on the raft leader's box
//	broker/settings         every setting that Kafka's tools know
//	broker/group            consumer groups; pure
//	broker/coordinator      owner of the groups, on __consumer_offsets
//	broker/kafkaserver      sockets on :9092, one file per API
//
//	platform/vfs sockio clock mailbox syncer observe heap host service loopback     leaves that know nothing of the engine
//
// Arrows run down only: cmd → node → servers → owners → rules → durable → vocabulary → platform. architecture_test.go
// asserts it, each ban with its reason. semantics_test.go lists the rules of ZooKeeper by number, and that tests name them.
//
// # The owners
//
// A mutable thing has one owner: a mailbox and a Step. Nothing else touches it; others send a message, or read an
// immutable snapshot that the owner has published.
//
//	thing                                   owner                    read by others as
//	the znode tree, watches, sessions       ensemble.Ensemble        View, under its read lock (the engine's one lock)
//	the raft log and snapshots              ensemble, through syncer -
//	a partition's state and log             replica shard            replica.View
//	log directories, open partitions        topics.Topics            Lookup
//	what the cluster decides                controller.Controller    the znodes
//	the catalog                             the applying goroutine   catalog.Snapshot
//	groups and their offsets                coordinator.Coordinator  -
//	what this box follows                   fetcher.Fetcher          -
//	flushes of one device                   syncer.Syncer            -
//	connections between boxes               link.Link                -
//
// # The paths
//
// A produced batch. (1) kafkaserver reads the frame into a pooled buffer and checks it before it decodes it
// (wire prescan); (2) 00_produce.go checks acks, size and CRC and hands the batch to its replica; (3) the shard's Step
// (replica/append.go) asks partition.Producers, stamps offset and epoch in place, and writes it with its neighbours by
// one seglog.Append; (4) the shard asks the syncer for one flush of all of it; (5) the flush comes back as a message,
// partition.State moves the high watermark, the view is published, and the parked requests are answered in order.
//
// A fetch. (1) 01_fetch.go takes the replica's View and asks its Log for a Span {file, position, length} under the high
// watermark; (2) sockio sends the header and the span by sendfile, or copies what is small; (3) with nothing to send
// the request parks a Waiter, which the shard wakes when its view has moved.
//
// A partition is copied. (1) The fetcher asks each leader about all that this box follows there, from where its logs end
// (replica/copy.go, Position), replicas that are not in sync in a question of their own, and says only what has changed since it asked
// last; remote carries that as a Fetch in a session, on a pipe of the link, of each kind of question one, so that nobody who waits for
// acks=all waits behind what a replica lacks; (2) kafkaserver answers it like any Fetch, up to the log's end, or says where the logs
// part, and looks only at partitions that have news (kafkaserver/followed.go); (3) the follower's shard checks and appends, or cuts;
// (4) its flush comes back (of one that is not in sync beside the others' rounds: syncer.Behind), its view says how far it vouches, and
// the fetcher tells the leader; (5) the leader's shard moves the
// high watermark to what all in sync vouch for, and answers who waits for acks=all.
//
// A partition moves. (1) A wish, an operator's (controller/plan_reassign.go) or the cluster's own (plan_heal.go), becomes adding and
// removing replicas in the topic's znode, with a log directory for each new one; (2) topics opens them empty on their boxes, and they
// are copied as above, within the throttles; (3) the leader lets them into the ISR; (4) reconcile (controller/election.go) sees that all
// that are to stay are in it, takes the others away and elects where the leader goes; (5) topics deletes what its box holds no more.
//
// Records are deleted. (1) The leader's shard raises the log's start, for everybody who asks, and has a checkpoint made of it
// (replica/starts.go); (2) followers are told at once with the next answer, and let go as far as it is acknowledged at them; one that is
// not in sync vouches for nothing before it has that on its disk, and a box that was away for nothing before its leader has answered it
// under its new registration (fetcher); (3) the box that was asked asks those whether they have, durably, that are there or may lead when
// they are back (by an unclean election any may, and is not waited for), as a catalog says that is not older than the deletion
// (node/starts.go); then it answers.
//
// A box stops (node/leave.go). (1) The controller elects others where it leads, and takes it out of the in-sync replicas; (2) its
// doors close once what is in hand is answered; (3) it hands on the leadership of the ensemble; (4) the end of its link ends its
// registration.
//
// A log is compacted. (1) A moment after something was written, topics looks over the compacted logs of a directory
// (topics/compaction.go, compact.Examine) and takes the one that is most due; (2) a compact.Pass reads the keys of its dirty part
// and writes segments beside those that they replace, in steps off the owner and at a bounded rate; (3) the shard puts each in
// place by seglog's Log.Replace, the only part that readers and appends could notice; (4) the offset up to which the log is
// compacted goes into a checkpoint. Every replica does this for itself.
//
// A ZooKeeper write. (1) zkserver decodes it, and hands it to the ensemble; (2) a box that does not lead sends it over the
// link, in a stream whose order is kept (ensemble/forward.go); the leader stamps its time, gathers (ensemble/gather.go), proposes;
// (3) raftlog writes, the syncer flushes the raft log before any other; (4) on commit znode.Apply validates and mutates
// under the lock, once per batch; (5) events go to the sessions' outboxes, and then the reply.
//
// A tree is restored (ensemble/restore.go). (1) The console spools what comes, reads it whole, and makes a backup of it if it is
// none (node/carrier.go, ensemble/carry); (2) the ensemble proposes its frames one by one, each an entry that all boxes stage beside
// their tree (znode/staging.go); (3) one entry swaps the staged nodes into the place of the users' and ends all sessions
// of clients. A backup is cut like a snapshot, by the ensemble's owner (ensemble/backup.go, znode/backup.go).
//
// A server that joins. (1) Its directory is empty: it asks the others how it stands (ensemble/join.go, over link's questions),
// and takes no part in raft; (2) a reconfig, or the leader itself for a lost disk, gives it a raft id in the roster
// (ensemble/quorum, an entry like any other); (3) told so, it begins, and the leader makes it a learner, which gets the log or
// a snapshot; (4) near the end of the log it votes, by a change of raft's membership (ensemble/members.go).
//
// A change of the broker's facts is a ZooKeeper write by the controller under /cairn/kafka; every box applies it,
// catalog.Project makes the next Snapshot, and topics opens, leads or deletes what it says.
//
// # Not obvious
//
// A batch's base offset and leader epoch lie outside its CRC, so that stamping needs no new CRC.
//
// Acknowledged means flushed: a high watermark never passes what the syncer has reported durable (topics with
// cairn.durability=replicated excepted).
//
// min.insync.replicas=auto follows a partition's replicas, and while they move the smaller end of the move (catalog.Partition.Factor):
// leader and controller must come to the same number, because eligible leaders are only those who left while it was not reached.
//
// A box that starts leads nothing until the controller has written a leader epoch above every epoch in its log.
//
// # Glossary
//
//	acks          how many replicas a producer wants to have its batch: 0, 1, -1 (all in sync)
//	czxid         the zxid that created a znode; that of a broker's registration is its broker epoch
//	ELR           eligible leader replicas (KIP-966)
//	epoch         a leader's number: of a partition (leader epoch), of the controller, of a producer, of a broker
//	HW            high watermark: the offset before which every record is acknowledged
//	index         position in the raft log
//	ISR           in-sync replicas
//	dirty         of a compacted log: written since the last compaction
//	LEO           log end offset: the offset that the next record gets
//	LSO           last stable offset: below it no transaction is undecided
//	offset        number of a record in its partition
//	position      byte in a file
//	session       a ZooKeeper client's, with a timeout; or a box's, with a lease
//	span          a range of bytes of a segment file, kept readable
//	term          raft's epoch
//	tombstone     a record without value: its key is deleted
//	view          an owner's published state
//	zxid          number of a transaction of the tree, one per applied entry
package engine
