package history

import "time"

// Kind is what a client asked for.
type Kind uint8

// The kinds of operations.
const (
	// Create makes Path with Value; NodeExists where it is there.
	Create Kind = iota
	// Set is setData of Value with Version, -1 for any.
	Set
	// Delete with Version, -1 for any.
	Delete
	// Read is getData, answered from the tree of the client's box.
	Read
	// SyncRead is sync and getData, sent one behind the other on one connection: linearizable. Only the getData's answer
	// counts; an error of the sync leaves the operation open.
	SyncRead
	// Exists is exists.
	Exists
	// Children is getChildren2.
	Children
	// CreateSequential makes a node with Path as the prefix of its name. Result.Name is what it was called.
	CreateSequential
	// Multi does its Parts all or none.
	Multi
	// Acquire is a client's finding that its node (Result.Name, Result.Czxid) is the first of the lock's directory Path, as
	// of the zxid of the answer that showed it. The requests that it takes may be recorded beside it as what they are.
	Acquire
	// Release is the delete of the node Path that held a lock.
	Release
	// Other is a request that no rule looks into but those of order: a ping, a close.
	Other
	kinds
)

var kindNames = [kinds]string{
	"create", "set", "delete", "read", "sync+read", "exists", "children", "create-sequential", "multi", "acquire", "release", "other",
}

// String is the kind's name.
func (k Kind) String() string { return kindNames[k] }

// writes tells whether the operation is a transaction of its own, with a zxid.
func (k Kind) writes() bool {
	return k == Create || k == Set || k == Delete || k == CreateSequential || k == Multi || k == Release
}

// Part is one operation of a Multi: Create, Set, Delete, or Check.
type Part struct {
	Kind    Kind
	Check   bool // of Version, nothing is done; Kind is not looked at
	Path    string
	Value   string
	Version int32
}

// Watch says which watch a read leaves behind when it is answered.
type Watch uint8

// The watches.
const (
	NoWatch Watch = iota
	// DataWatch is that of getData and exists; exists leaves it also where the node is not there.
	DataWatch
	// ChildWatch is that of getChildren.
	ChildWatch
)

// Code is ZooKeeper's error number in an answer. Numbers that are not named here mean that nothing was done.
type Code int32

// Codes that the rules tell apart.
const (
	OK         Code = 0
	NoNode     Code = -101
	BadVersion Code = -103
	NodeExists Code = -110
	NotEmpty   Code = -111
)

// Result is an answer. What an answer does not say is zero, and then not looked at, but for Code and Value.
type Result struct {
	Code Code
	// Zxid is that of the answer's header: of the write, or of the tree that was read.
	Zxid int64
	// Name is what a sequential node was called; of Acquire, the node that holds the lock.
	Name string
	// Value and Version of a Read; Version also of a Set.
	Value   string
	Version int32
	// Czxid, Mzxid and Pzxid are those of the Stat.
	Czxid, Mzxid, Pzxid int64
	// Children of a Children, in any order.
	Children []string
}

// Op is one request, and its answer if there was one. An operation without an answer may have happened at any time since,
// or not at all.
type Op struct {
	// Client is whoever sees the answers in order, over all its sessions.
	Client int
	// Session that asks, and the number of its connection, counted by the client from 1.
	Session int64
	Conn    int
	// Order is the request's place among those of its connection, from 1, in the order of sending: only then is the order
	// of the answers judged. 0 where a client does not know it.
	Order int
	Box   uint64
	Kind  Kind
	Path  string
	Value string
	// Version that Set and Delete ask for.
	Version   int32
	Ephemeral bool
	Parts     []Part
	Watch     Watch

	// What follows is the Recorder's.
	Invoked, Returned time.Duration
	Result            Result
	// invoked and returned are places in the order of everything that was recorded; returned is 0 while there is no answer.
	invoked, returned int
}

// Known tells whether there was an answer.
func (o *Op) Known() bool { return o.returned != 0 }

// done tells whether the write is known to have happened.
func (o *Op) done() bool { return o.Known() && o.Result.Code == OK }

// before tells whether o was answered before p was asked.
func (o *Op) before(p *Op) bool { return o.Known() && o.returned < p.invoked }

// EventKind is what happened to a client without its asking.
type EventKind uint8

// The kinds of events.
const (
	// Connected: a connection has the session, new or known. Timeout is what the server granted.
	Connected EventKind = iota
	// Rearmed: the client has asked, on this connection and before anything else, for the watches that it had (setWatches),
	// as of the last zxid that it saw. Without it a client's watches end with their connection.
	Rearmed
	// Disconnected: the connection was lost.
	Disconnected
	// Expired: a server has said that the session is gone.
	Expired
	// Closed: the client has closed the session.
	Closed
	// Fired is the notification of a watch: Path, Type and Zxid are its own.
	Fired
	eventKinds
)

var eventNames = [eventKinds]string{"connected", "rearmed", "disconnected", "expired", "closed", "event"}

// String is the kind's name.
func (k EventKind) String() string { return eventNames[k] }

// EventType is ZooKeeper's number of a notification.
type EventType int32

// The notifications.
const (
	NodeCreated         EventType = 1
	NodeDeleted         EventType = 2
	NodeDataChanged     EventType = 3
	NodeChildrenChanged EventType = 4
)

// Event is one.
type Event struct {
	Client  int
	Session int64
	Conn    int
	Box     uint64
	Kind    EventKind
	Timeout time.Duration
	Type    EventType
	Path    string
	// Zxid of the transaction that fired the watch; 0 or less where the server does not say (a catch-up of setWatches).
	Zxid int64

	// What follows is the Recorder's.
	At  time.Duration
	seq int
}
