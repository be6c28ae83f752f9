package znode

import "cairn/engine/ensemble/jute"

// Outcome is what an applied entry did. Its slices belong to the receiver; strings and data in it are immutable.
type Outcome struct {
	Kind Kind
	// Op is what the client asked (Entry.Op).
	Op jute.OpCode
	// Zxid of the entry; every entry has one.
	Zxid int64
	// TimeMs is the time that the entry was applied at: the leader's, never going back.
	TimeMs int64
	// Err is OK, or why nothing was changed. For a multi it is the code of the first op that failed (KindReap never
	// fails as a whole).
	Err jute.Code
	// Results, one per op of the entry (KindOp: one, also after an error). In a failed multi all are errors.
	Results []Result
	// Changes in the order in which they happened. Empty after an error.
	Changes []Change
	// Session that was created (KindCreateSession, KindRegister).
	Session int64
	// Config is the data of /zookeeper/config after a KindReconfig. Immutable.
	Config []byte
	// Closed are the sessions that the entry ended: their connections are to be closed.
	Closed []int64
	// Replaced: all nodes but those below /cairn are others now (KindSwap). There are no Changes that tell of it.
	Replaced bool
	// OverQuota is the quota that the entry exceeds, the last if there are several; nil is none, and where quotas are not
	// enforced. Beyond a soft limit the entry comes to pass all the same.
	OverQuota *OverQuota
}

// OverQuota is a quota that is exceeded, or would be: what ZooKeeper logs of it (ZooKeeperServer.checkQuota).
type OverQuota struct {
	Path       string // what the quota is of
	Limit      string // countLimit, countHardLimit, byteLimit or byteHardLimit
	Hard       bool   // the entry is refused
	Want, Most int64  // nodes, or bytes
}

// Result is the result of one op.
type Result struct {
	Type jute.OpCode // the op's type; OpError for every op of a failed multi
	Err  jute.Code
	Path string    // of creates: the name that was given
	Stat jute.Stat // of creates, setData, setACL, reconfig
}

// Change is one thing that watches and subscribers are told.
type Change struct {
	// Kind is NodeCreated, NodeDeleted, NodeDataChanged, NodeChildrenChanged, or EventNone for a changed ACL, which fires
	// no watch.
	Kind jute.EventType
	Path string
	Zxid int64
	// ACL that decides who may be told: that of the node (of a deleted node: the last one), or of the parent whose
	// children changed. Immutable. See MayRead.
	ACL []jute.ACL
	// Data and Stat of the node after the change; of a deleted node, before it.
	Data []byte
	Stat jute.Stat
}

// ReplyErr is the error of the reply's header. A failed multi answers OK there, and its body tells the errors; only a
// moved session fails it as a whole (FinalRequestProcessor).
func (o *Outcome) ReplyErr() jute.Code {
	if o.Op == jute.OpMulti && len(o.Results) > 0 && o.Err != jute.SessionMoved && o.Err != jute.MarshallingError {
		return jute.OK
	}
	return o.Err
}

// AppendBody appends the body of the reply that a client gets, which is nothing when ReplyErr is not OK.
func (o *Outcome) AppendBody(dst []byte) []byte {
	if o.ReplyErr() != jute.OK {
		return dst
	}
	if o.Op == jute.OpMulti {
		for i := range o.Results {
			r := jute.OpResult{Type: o.Results[i].Type, Err: o.Results[i].Err, Path: o.Results[i].Path, Stat: o.Results[i].Stat}
			dst = r.Append(dst)
		}
		return jute.AppendMultiEnd(dst)
	}
	if len(o.Results) != 1 {
		return dst
	}
	r := &o.Results[0]
	switch o.Op {
	case jute.OpCreate:
		return jute.AppendString(dst, r.Path)
	case jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL:
		return r.Stat.Append(jute.AppendString(dst, r.Path))
	case jute.OpSetData, jute.OpSetACL:
		return r.Stat.Append(dst)
	case jute.OpReconfig:
		return r.Stat.Append(jute.AppendBuffer(dst, o.Config))
	}
	return dst
}
