package group

import "time"

// Ticket names a request whose answer will come in a Reply. Zero means that nobody waits.
type Ticket uint64

// Request is something asked of the groups. The types below are all there are. What a Request holds belongs to the
// Groups from Step on: nothing in it may be changed or reused.
type Request interface {
	// GroupID is the group that is asked about; it decides the coordinator.
	GroupID() string
	target() *Target
}

// Target is the part that all requests have.
type Target struct {
	// Ticket is the owner's.
	Ticket Ticket
	// Group is the group's id.
	Group string
}

// GroupID is the group that is asked about.
func (t *Target) GroupID() string { return t.Group }
func (t *Target) target() *Target { return t }

// SetTicket names a request.
func SetTicket(q Request, t Ticket) { q.target().Ticket = t }

// To names the group of a request.
func To(group string) Target { return Target{Group: group} }

// Join is JoinGroup (11).
type Join struct {
	Target
	// Version is that of the API: from 4 on a new dynamic member must come back with the id that it is given, from 9 on
	// a static leader can be told to skip the assignment, 0 has no rebalance timeout.
	Version int16
	// MemberID is empty for a new member.
	MemberID string
	// InstanceID is nil for a dynamic member.
	InstanceID *string
	// ClientID and ClientHost are what DescribeGroups shows.
	ClientID, ClientHost string
	Session, Rebalance   time.Duration
	ProtocolType         string
	// Protocols are the assignors that the member knows, the best first.
	Protocols []Protocol
	// Reason is the client's, for the log.
	Reason string
	// Unique makes a new member's id unique: a random UUID from the owner.
	Unique string
}

// Protocol is an assignor that a member knows, with the member's metadata for it.
type Protocol struct {
	Name     string
	Metadata []byte
}

// Sync is SyncGroup (14).
type Sync struct {
	Target
	Generation int32
	MemberID   string
	InstanceID *string
	// ProtocolType and Protocol are nil below version 5.
	ProtocolType, Protocol *string
	// Assignments are the leader's.
	Assignments []Assignment
}

// Assignment is what one member gets.
type Assignment struct {
	MemberID string
	Data     []byte
}

// Heartbeat is Heartbeat (12).
type Heartbeat struct {
	Target
	Generation int32
	MemberID   string
	InstanceID *string
}

// Leave is LeaveGroup (13).
type Leave struct {
	Target
	Members []Leaver
}

// Leaver is a member that leaves: by member id, or by instance id alone when an operator removes it.
type Leaver struct {
	MemberID   string
	InstanceID *string
	Reason     string
}

// Commit is OffsetCommit (8).
type Commit struct {
	Target
	// Version is that of the API: from 9 on an unknown group is GROUP_ID_NOT_FOUND.
	Version int16
	// Generation is -1 and MemberID empty for a commit from outside the group.
	Generation int32
	MemberID   string
	InstanceID *string
	// Retention is the time after which these offsets expire, negative for the broker's setting (versions 2 to 4).
	Retention time.Duration
	Topics    []CommitTopic
}

// CommitTopic is a topic's part of a Commit.
type CommitTopic struct {
	Topic      string
	Partitions []CommitPartition
}

// CommitPartition is one offset to commit.
type CommitPartition struct {
	Partition   int32
	Offset      int64
	LeaderEpoch int32 // -1 if unknown
	Metadata    string
}

// FetchOffsets is OffsetFetch (9) for one group.
type FetchOffsets struct {
	Target
	// All asks for every offset of the group; then Topics is empty.
	All    bool
	Topics []TopicPartitions
	// RequireStable refuses offsets that a transaction under way may change (KIP-447).
	RequireStable bool
}

// TopicPartitions names partitions of a topic.
type TopicPartitions struct {
	Topic      string
	Partitions []int32
}

// DeleteOffsets is OffsetDelete (47).
type DeleteOffsets struct {
	Target
	Topics []TopicPartitions
}

// Delete is DeleteGroups (42) for one group.
type Delete struct{ Target }

// Describe is DescribeGroups (15) for one group.
type Describe struct{ Target }
