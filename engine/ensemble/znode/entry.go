package znode

import (
	"cairn/engine/ensemble/jute"
)

// RulesVersion is the newest version of the rules that this build can apply. Entries are applied under the version that
// is in the tree, which a committed entry raises once every member can run it.
const RulesVersion = 1

// Kind says what an Entry is.
type Kind uint8

// The kinds of entries. Their numbers are on disk: append only.
const (
	// KindOp is one write of a session: Ops[0].
	KindOp Kind = 1
	// KindMulti is a multi of a session: Ops, all or none.
	KindMulti Kind = 2
	// KindCreateSession opens a session of TimeoutMs, attached to Box. Its id is in the outcome. With Session it makes one of
	// that id, which its box alone knew (LocalBit), one that all know; one that all know is no error.
	KindCreateSession Kind = 3
	// KindCloseSession closes Session and deletes its ephemerals. A session that is not there is no error.
	KindCloseSession Kind = 4
	// KindMoveSession attaches Session to Box, with TimeoutMs unless that is 0; writes that name another box get
	// SessionMoved from then on.
	KindMoveSession Kind = 5
	// KindExpireSession closes Session if it is still attached to Box: the leader's silence about a session that has
	// moved since says nothing.
	KindExpireSession Kind = 6
	// KindReap deletes containers and TTL nodes, Ops of type deleteContainer, each if it may still be deleted. NeverUsedMs
	// is the age from which a container that never had a child goes too (0: never).
	KindReap Kind = 7
	// KindRegister is a box making itself known: Ops of any kind, all or none, their ephemerals owned by the box's
	// session, which a new Incarnation opens after it removed the old one with its ephemerals. A lower Incarnation than
	// the tree knows is BadVersion.
	KindRegister Kind = 8
	// KindExpireBox closes the session of Box, if it still has Incarnation.
	KindExpireBox Kind = 9
	// KindSetRules raises the rules version to Rules; it is never lowered.
	KindSetRules Kind = 10
	// KindSetSecret gives the tree the cluster's session secret (Data), once: a second one is NodeExists.
	KindSetSecret Kind = 11
	// KindReconfig replaces the data of /zookeeper/config by Data and a last line "version=<zxid in hex>" (no Data: it stays),
	// and does Ops under the boxes' own authority. It is a client's reconfig, or the boxes' own. The leader works both out of
	// what the client asks for; where it refuses, the one op is an OpError whose Version is the code.
	KindReconfig Kind = 12
	// KindAdvanceZxid raises the zxid to at least Zxid before it is counted: after an import, a restore, a recovery.
	KindAdvanceZxid Kind = 13
	// KindNoop takes a zxid and changes nothing.
	KindNoop Kind = 14
	// KindStage adds the next part of a backup to those that are staged beside the tree (Data: StageData); the first part
	// drops what was staged before. A part that does not follow is BadVersion, one that cannot be read BadArguments.
	KindStage Kind = 15
	// KindSwap puts the staged backup that Data names into the place of the users' tree, under one zxid, at least 2^32 above
	// both. All sessions of clients end. A backup that is not staged to its end is BadVersion, one that is no tree
	// BadArguments: nothing is changed then.
	KindSwap Kind = 16
	// KindUnstage drops the staged backup that Data names.
	KindUnstage Kind = 17
	kindEnd     Kind = 18
)

// Flags are the switches under which an entry is applied. The leader stamps them from its own configuration, so that
// boxes that were configured differently still apply the same.
type Flags uint32

// The flags. Their bits are on disk.
const (
	// FlagInternal marks a write of the boxes themselves: no session, no ACL, and /cairn is open. Never set for what a
	// client asked.
	FlagInternal Flags = 1 << iota
	// FlagExtendedTypes is zookeeper.extendedTypesEnabled: without it createTTL is Unimplemented.
	FlagExtendedTypes
	// FlagEnforceQuota is enforceQuota: hard limits refuse with QuotaExceeded.
	FlagEnforceQuota
	// FlagSkipACL is zookeeper.skipACL. It does not open /cairn.
	FlagSkipACL
	// FlagSASL and FlagX509 say that these authentication providers are configured; without, ACLs that name their
	// schemes are InvalidACL, as in ZooKeeper.
	FlagSASL
	FlagX509
	// FlagLocal marks a write of a session that its box alone knows: Session is 0, and what takes an owner fails.
	FlagLocal
	flagEnd
)

// OpEnsure is an op of internal entries alone: the node at Path and its missing parents exist afterwards, persistent and
// open, made with Data if they were made; an existing node is left as it is.
const OpEnsure jute.OpCode = -100

// Entry is one replicated request.
type Entry struct {
	Kind  Kind
	Flags Flags
	// Rules is the rules version that the proposer expects the entry to be applied under. An entry that needs newer rules
	// than the tree's is Unimplemented.
	Rules uint32
	// TimeMs is the leader's time, in milliseconds since 1970. A tree takes time forward only: an older one counts as
	// the last.
	TimeMs int64
	// Session that asks (or, for KindExpireSession, is expired; for KindCreateSession, that becomes known to all); 0 for
	// internal entries and those of local sessions.
	Session int64
	// Box is the box that the session is attached to or comes from. 0 is not checked.
	Box uint64
	// Auth are the ids of the connection: its ip, what it authenticated as, and ("super","") when it proved that.
	Auth []jute.ID
	// Ops of KindOp, KindMulti, KindReap, KindRegister and KindReconfig.
	Ops []jute.Op

	TimeoutMs   int32  // KindCreateSession, KindMoveSession, KindRegister (as shown; the lease decides)
	Incarnation uint64 // KindRegister, KindExpireBox: grows with each start of the box
	NeverUsedMs int64  // KindReap
	Zxid        int64  // KindAdvanceZxid
	Data        []byte // KindSetSecret, KindReconfig, KindStage, KindSwap, KindUnstage
}

// Op returns the op code that the entry answers: that of a client's request, or 0 for what no client asks.
func (e *Entry) Op() jute.OpCode {
	switch e.Kind {
	case KindOp:
		if len(e.Ops) == 1 {
			return e.Ops[0].Type
		}
	case KindMulti:
		return jute.OpMulti
	case KindReconfig:
		return jute.OpReconfig
	case KindCreateSession:
		return jute.OpCreateSession
	case KindCloseSession, KindExpireSession:
		return jute.OpCloseSession
	}
	return 0
}

func (e *Entry) has(f Flags) bool { return e.Flags&f != 0 }

// access is who asks, as the rules of ACLs see it.
func (e *Entry) access() Access {
	return Access{IDs: e.Auth, Internal: e.has(FlagInternal), SkipACL: e.has(FlagSkipACL)}
}

// Access is who reads or writes: the ids of a connection, or the box itself.
type Access struct {
	IDs      []jute.ID
	Internal bool // the box itself: everything is open to it
	SkipACL  bool // zookeeper.skipACL: ACLs are not looked at; /cairn stays protected

	asked map[question]bool // what long lists of ACLs answered; nil: it is not remembered
}

// Remembering is the same access for several questions under one hold of the lock: each long list is asked once.
func (a Access) Remembering() Access {
	a.asked = make(map[question]bool)
	return a
}

// Box is the access of the box itself.
func Box() Access { return Access{Internal: true} }
