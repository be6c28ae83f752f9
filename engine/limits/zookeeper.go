package limits

import "fmt"

// ZooKeeper are the maxima of the ensemble and of the servers that speak ZooKeeper's protocol.
type ZooKeeper struct {
	// FrameBytesMax is the longest request frame that a connection may send, jute.maxbuffer. A longer one closes the
	// connection without an answer, as ZooKeeper does. Default 0xfffff, ZooKeeper's own.
	FrameBytesMax int
	// ConnectionsMax is how many connections all ZooKeeper listeners hold together; one more is accepted and closed.
	ConnectionsMax int
	// ConnectionsPerAddressMax is ZooKeeper's maxClientCnxns: connections from one client address; 0 means no limit.
	ConnectionsPerAddressMax int
	// OutboxBytesMax is how many bytes of replies and events may wait on one connection. A client that does not read
	// them is disconnected; it reconnects and re-arms its watches.
	OutboxBytesMax int
	// OutboxesBytesMax is how many bytes may wait on all connections together; beyond it those that hold most of them
	// unread are disconnected.
	OutboxesBytesMax int64
	// LargeFramesBytesMax is how many bytes of requests above 64 KiB may be in the course of being received; beyond it the
	// next such connection is not read until others are through.
	LargeFramesBytesMax int64
	// PipelineMax is how many requests of one connection may be under way; beyond it the connection is not read.
	PipelineMax int
	// AuthIDsMax is how many identities one connection may collect by addAuth.
	AuthIDsMax int
	// MultiOpsMax is how many operations one multi may hold.
	MultiOpsMax int

	// SessionsMax is how many sessions the ensemble keeps; creating one more is refused.
	SessionsMax int
	// WatchesMax is how many (watcher, path) registrations this box keeps for all its connections.
	WatchesMax int
	// WatchesPerConnectionMax is how many of them one connection may hold.
	WatchesPerConnectionMax int
	// SubscribersMax is how many rooms of this process may follow the tree.
	SubscribersMax int

	// TreeBytesMax is the budget of the tree as znode accounts it: the leader refuses growth beyond it. A backup that is being
	// restored counts against it by itself, so that the tree takes up to twice as much until it has taken its place.
	TreeBytesMax int64
	// ProposalBytesMax is the longest encoded entry that is proposed: a frame and what the leader adds to it.
	ProposalBytesMax int
	// ProposalsMax is how many proposals of this box may be in flight; one more is refused with ErrFull.
	ProposalsMax int
	// ProposalsBytesMax is how many encoded bytes of proposals may be in flight.
	ProposalsBytesMax int64
	// ReadIndexesMax is how many read-index requests may wait.
	ReadIndexesMax int
	// MailboxMax is how many messages may wait before the ensemble's owner.
	MailboxMax int

	// LogSegmentBytes is the size at which the raft log starts another file; the last one is also held in memory.
	LogSegmentBytes int
	// SnapshotEntries and SnapshotLogBytes say after how many entries, or bytes of log, the tree is written out and the
	// log before the previous snapshot is dropped.
	SnapshotEntries  uint64
	SnapshotLogBytes int64
	// CatchUpEntries is how many applied entries stay in memory for followers that lag.
	CatchUpEntries uint64
	// RaftMessageBytesMax is the most bytes of entries in one message between boxes.
	RaftMessageBytesMax uint64
	// RaftInflightMax is how many such messages to one box may be unanswered.
	RaftInflightMax int
}

// proposalOverhead is what origin, time, identities and framing may add to a client's frame.
const proposalOverhead = 64 << 10

func deriveZooKeeper(memory uint64) ZooKeeper {
	m := int64(min(memory, 1<<46))
	const frame = 0xfffff
	return ZooKeeper{
		FrameBytesMax:            frame,
		ConnectionsMax:           int(clamp(m>>17, 256, 65536)),
		ConnectionsPerAddressMax: 60,
		OutboxBytesMax:           int(clamp(m/64, 4*frame, 16<<20)),
		OutboxesBytesMax:         clamp(m/8, 24<<20, 1<<30),
		LargeFramesBytesMax:      clamp(m/32, 4*frame, 256<<20),
		PipelineMax:              1000,
		AuthIDsMax:               64,
		MultiOpsMax:              20000,

		SessionsMax:             int(clamp(m>>15, 1024, 1<<20)),
		WatchesMax:              int(clamp(m>>10, 1<<16, 1<<24)),
		WatchesPerConnectionMax: int(clamp(m>>11, 1<<15, 1<<22)),
		SubscribersMax:          64,

		TreeBytesMax:      clamp(m/4, 16<<20, 64<<30),
		ProposalBytesMax:  frame + proposalOverhead,
		ProposalsMax:      int(clamp(m>>15, 1024, 16384)),
		ProposalsBytesMax: clamp(m/32, 4<<20, 256<<20),
		ReadIndexesMax:    int(clamp(m>>15, 1024, 65536)),
		MailboxMax:        int(clamp(m>>13, 8192, 65536)),

		LogSegmentBytes:     2 << 20,
		SnapshotEntries:     100_000,
		SnapshotLogBytes:    clamp(m/16, 8<<20, 256<<20),
		CatchUpEntries:      5000,
		RaftMessageBytesMax: 1 << 20,
		RaftInflightMax:     64,
	}
}

func (z ZooKeeper) check(memory uint64) error {
	switch {
	case z.ProposalBytesMax < z.FrameBytesMax:
		return fmt.Errorf("a proposal of %d bytes cannot hold a frame of %d", z.ProposalBytesMax, z.FrameBytesMax)
	case z.ProposalsBytesMax < int64(z.ProposalBytesMax):
		return fmt.Errorf("%d bytes in flight cannot hold one proposal of %d", z.ProposalsBytesMax, z.ProposalBytesMax)
	case z.OutboxBytesMax < z.FrameBytesMax:
		return fmt.Errorf("an outbox of %d bytes cannot hold an answer of %d", z.OutboxBytesMax, z.FrameBytesMax)
	case z.OutboxesBytesMax < int64(z.OutboxBytesMax):
		return fmt.Errorf("all outboxes of %d bytes together cannot hold one of %d", z.OutboxesBytesMax, z.OutboxBytesMax)
	case z.TreeBytesMax <= 0 || uint64(z.TreeBytesMax) > memory:
		return fmt.Errorf("a tree budget of %d bytes does not fit", z.TreeBytesMax)
	case z.MailboxMax < z.ProposalsMax:
		return fmt.Errorf("a mailbox of %d messages is less than %d proposals", z.MailboxMax, z.ProposalsMax)
	case z.WatchesMax < z.WatchesPerConnectionMax:
		return fmt.Errorf("%d watches in all are less than %d of one connection", z.WatchesMax, z.WatchesPerConnectionMax)
	case z.LogSegmentBytes <= 0 || z.SnapshotEntries == 0 || z.SnapshotLogBytes <= 0:
		return fmt.Errorf("log segments of %d bytes, snapshots after %d entries or %d bytes", z.LogSegmentBytes, z.SnapshotEntries, z.SnapshotLogBytes)
	case z.SessionsMax <= 0 || z.ConnectionsMax <= 0 || z.PipelineMax <= 0 || z.MultiOpsMax <= 0 || z.AuthIDsMax <= 0:
		return fmt.Errorf("a maximum of sessions (%d), connections (%d), pipeline (%d), operations (%d) or identities (%d) is zero",
			z.SessionsMax, z.ConnectionsMax, z.PipelineMax, z.MultiOpsMax, z.AuthIDsMax)
	case z.ReadIndexesMax <= 0 || z.SubscribersMax <= 0 || z.RaftInflightMax <= 0 || z.RaftMessageBytesMax == 0:
		return fmt.Errorf("a maximum of read indexes (%d), subscribers (%d) or raft messages (%d of %d bytes) is zero",
			z.ReadIndexesMax, z.SubscribersMax, z.RaftInflightMax, z.RaftMessageBytesMax)
	}
	return nil
}
