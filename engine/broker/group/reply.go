package group

import "github.com/twmb/franz-go/pkg/kerr"

// Reply is an answer to be sent. It may leave once the batch of that number, and all before it, are committed; 0 means
// at once.
type Reply struct {
	To     Ticket
	After  uint64
	Answer Answer
}

// Answer is the answer to one kind of request: *JoinAnswer to *Join, and so on. Slices in it may be shared with the
// state: they are read, never changed.
type Answer interface {
	// Failure is the error that the whole request ended with, or nil.
	Failure() *kerr.Error
}

// Outcome is the part that all answers have.
type Outcome struct {
	// Err is the error that the whole request ended with, or nil.
	Err *kerr.Error
}

// Failure is the error that the whole request ended with, or nil.
func (o Outcome) Failure() *kerr.Error { return o.Err }

// JoinAnswer answers a Join.
type JoinAnswer struct {
	Outcome
	Generation   int32
	ProtocolType *string
	Protocol     *string
	Leader       string
	MemberID     string
	// Members is what the leader assigns to; empty for all others.
	Members []JoinMember
	// SkipAssignment tells a static leader that came back that the assignment stands (KIP-814).
	SkipAssignment bool
}

// JoinMember is one member as its leader sees it.
type JoinMember struct {
	ID         string
	InstanceID *string
	Metadata   []byte
}

// SyncAnswer answers a Sync.
type SyncAnswer struct {
	Outcome
	ProtocolType *string
	Protocol     *string
	Assignment   []byte
}

// HeartbeatAnswer answers a Heartbeat.
type HeartbeatAnswer struct{ Outcome }

// LeaveAnswer answers a Leave; its members stand in the order of the request.
type LeaveAnswer struct {
	Outcome
	Members []LeftMember
}

// LeftMember is the outcome for one member.
type LeftMember struct {
	MemberID   string
	InstanceID *string
	Err        *kerr.Error
}

// CommitAnswer answers a Commit: an error for all, or one for each partition in the order of the request.
type CommitAnswer struct {
	Outcome
	Partitions []*kerr.Error
}

// FetchAnswer answers a FetchOffsets.
type FetchAnswer struct {
	Outcome
	Topics []FetchedTopic
}

// FetchedTopic are the offsets of one topic.
type FetchedTopic struct {
	Topic      string
	Partitions []FetchedOffset
}

// FetchedOffset is one committed offset; Offset is -1 when there is none.
type FetchedOffset struct {
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	Metadata    string
	Err         *kerr.Error
}

// DeleteOffsetsAnswer answers a DeleteOffsets: an error for all, or one for each partition in the order of the request.
type DeleteOffsetsAnswer struct {
	Outcome
	Partitions []*kerr.Error
}

// DeleteAnswer answers a Delete.
type DeleteAnswer struct{ Outcome }

// DescribeAnswer answers a Describe. A group that does not exist has the error GROUP_ID_NOT_FOUND and the state Dead.
type DescribeAnswer struct {
	Outcome
	State        State
	ProtocolType string
	Protocol     string
	Members      []DescribedMember
}

// DescribedMember is one member of a described group.
type DescribedMember struct {
	ID                   string
	InstanceID           *string
	ClientID, ClientHost string
	Metadata, Assignment []byte
}

// Listed is one group of a list.
type Listed struct {
	Group        string
	ProtocolType string
	State        State
}

// Refuse is the answer to q when it fails as a whole.
func Refuse(q Request, err *kerr.Error) Answer {
	f := Outcome{err}
	switch q := q.(type) {
	case *Join:
		return &JoinAnswer{Outcome: f, MemberID: q.MemberID, Generation: -1}
	case *Sync:
		return &SyncAnswer{Outcome: f}
	case *Heartbeat:
		return &HeartbeatAnswer{f}
	case *Leave:
		return &LeaveAnswer{Outcome: f}
	case *Commit:
		return &CommitAnswer{Outcome: f}
	case *FetchOffsets:
		return &FetchAnswer{Outcome: f}
	case *DeleteOffsets:
		return &DeleteOffsetsAnswer{Outcome: f}
	case *Delete:
		return &DeleteAnswer{f}
	default:
		return &DescribeAnswer{Outcome: f, State: Dead}
	}
}
