package jute

// Permissions of an ACL (ZooDefs.Perms).
const (
	PermRead   int32 = 1
	PermWrite  int32 = 2
	PermCreate int32 = 4
	PermDelete int32 = 8
	PermAdmin  int32 = 16
	PermAll    int32 = 31
)

// CreateMode is the flags field of a create request (CreateMode.fromFlag).
type CreateMode int32

// The create modes; any other flag is BadArguments.
const (
	Persistent              CreateMode = 0
	Ephemeral               CreateMode = 1
	PersistentSequential    CreateMode = 2
	EphemeralSequential     CreateMode = 3
	Container               CreateMode = 4
	PersistentTTL           CreateMode = 5
	PersistentSequentialTTL CreateMode = 6
)

// Valid tells whether the flag is a create mode.
func (m CreateMode) Valid() bool { return m >= Persistent && m <= PersistentSequentialTTL }

// Sequential tells whether the server appends a number to the name.
func (m CreateMode) Sequential() bool {
	return m == PersistentSequential || m == EphemeralSequential || m == PersistentSequentialTTL
}

// Ephemeral tells whether the node goes with its session.
func (m CreateMode) Ephemeral() bool { return m == Ephemeral || m == EphemeralSequential }

// TTL tells whether the node goes when it was empty and unchanged for a time.
func (m CreateMode) TTL() bool { return m == PersistentTTL || m == PersistentSequentialTTL }

// EventType is the type of a WatcherEvent (Watcher.Event.EventType).
type EventType int32

// The events. The three last are made by clients alone.
const (
	EventNone                   EventType = -1
	EventNodeCreated            EventType = 1
	EventNodeDeleted            EventType = 2
	EventNodeDataChanged        EventType = 3
	EventNodeChildrenChanged    EventType = 4
	EventDataWatchRemoved       EventType = 5
	EventChildWatchRemoved      EventType = 6
	EventPersistentWatchRemoved EventType = 7
)

var eventNames = map[EventType]string{
	EventNone: "None", EventNodeCreated: "NodeCreated", EventNodeDeleted: "NodeDeleted",
	EventNodeDataChanged: "NodeDataChanged", EventNodeChildrenChanged: "NodeChildrenChanged",
	EventDataWatchRemoved: "DataWatchRemoved", EventChildWatchRemoved: "ChildWatchRemoved",
	EventPersistentWatchRemoved: "PersistentWatchRemoved",
}

// String is ZooKeeper's name of the event.
func (e EventType) String() string { return eventNames[e] }

// States of a WatcherEvent (Watcher.Event.KeeperState).
const (
	StateDisconnected      int32 = 0
	StateNoSyncConnected   int32 = 1
	StateSyncConnected     int32 = 3
	StateAuthFailed        int32 = 4
	StateConnectedReadOnly int32 = 5
	StateSASLAuthenticated int32 = 6
	StateClosed            int32 = 7
	StateExpired           int32 = -112
)

// WatcherType is the type field of checkWatches and removeWatches (Watcher.WatcherType).
type WatcherType int32

// The watcher types; the two last exist since 3.9.
const (
	WatcherChildren            WatcherType = 1
	WatcherData                WatcherType = 2
	WatcherAny                 WatcherType = 3
	WatcherPersistent          WatcherType = 4
	WatcherPersistentRecursive WatcherType = 5
)

// Valid tells whether the number is a watcher type; ZooKeeper fails to
// decode any other and answers MarshallingError.
func (w WatcherType) Valid() bool { return w >= WatcherChildren && w <= WatcherPersistentRecursive }

// Modes of addWatch (AddWatchMode).
const (
	AddWatchPersistent          int32 = 0
	AddWatchPersistentRecursive int32 = 1
)

// Schemes of ids (server/auth).
const (
	SchemeWorld    = "world"
	SchemeAuth     = "auth"
	SchemeDigest   = "digest"
	SchemeIP       = "ip"
	SchemeX509     = "x509"
	SchemeSASL     = "sasl"
	SchemeSuper    = "super"
	SchemeEnsemble = "ensemble"
)
