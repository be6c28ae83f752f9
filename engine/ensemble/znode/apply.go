package znode

import (
	"slices"

	"cairn/engine/ensemble/jute"
)

// zxidMax is as far as KindAdvanceZxid goes. Consumers take a zxid for a positive 63-bit number that always has room.
const zxidMax = 1 << 62

// txn is one entry while it is applied.
type txn struct {
	t     *Tree
	e     *Entry
	zxid  int64
	time  int64
	owner int64 // of the ephemerals that are made
	acc   Access
	out   *Outcome
	// counted are the subtrees that were counted for quotas, kept up to date since: a multi that makes the stats of one
	// again and again does not walk through it again and again.
	counted map[string]quotaTrack
}

// Apply applies one entry. It never fails as a whole: an entry that may not be applied takes its zxid and says why in
// its outcome, the same on every box. The entry's strings and slices are not kept.
func (t *Tree) Apply(e *Entry) Outcome {
	if e.Kind == KindAdvanceZxid && e.Zxid < zxidMax {
		t.zxid = max(t.zxid, e.Zxid)
	}
	t.zxid++
	t.timeMs = max(t.timeMs, e.TimeMs)
	t.dropStale()
	out := Outcome{Kind: e.Kind, Op: e.Op(), Zxid: t.zxid, TimeMs: t.timeMs}
	x := txn{t: t, e: e, zxid: t.zxid, time: t.timeMs, owner: e.Session, acc: e.access(), out: &out}
	out.Err = x.apply()
	if out.Err != jute.OK {
		out.Changes = nil
	}
	if t.cut == nil && len(t.acls.unused) > 0 {
		t.acls.sweep()
	}
	return out
}

func (x *txn) apply() jute.Code {
	e := x.e
	if e.Kind != KindSetRules && e.Rules > x.t.rules {
		return jute.Unimplemented
	}
	switch e.Kind {
	case KindOp:
		return x.single()
	case KindMulti:
		return x.multi()
	case KindCreateSession:
		return x.createSession()
	case KindCloseSession, KindExpireSession:
		return x.closeSession(e.Session)
	case KindMoveSession:
		return x.moveSession()
	case KindReap:
		return x.reap()
	case KindRegister:
		return x.register()
	case KindExpireBox:
		return x.expireBox()
	case KindSetRules:
		return x.setRules()
	case KindSetSecret:
		return x.setSecret()
	case KindReconfig:
		return x.reconfig()
	case KindAdvanceZxid:
		if e.Zxid >= zxidMax || e.Zxid < 0 {
			return jute.BadArguments
		}
		return jute.OK
	case KindNoop:
		return jute.OK
	case KindStage:
		return x.stage()
	case KindSwap:
		return x.swap()
	case KindUnstage:
		return x.unstage()
	}
	return jute.Unimplemented
}

func (x *txn) single() jute.Code {
	if len(x.e.Ops) != 1 {
		return jute.MarshallingError
	}
	x.out.Changes = make([]Change, 0, 2)
	r := x.do(&x.e.Ops[0])
	x.out.Results = []Result{r}
	return r.Err
}

// multi does all ops or none. An op sees what those before it did. After a failure every result is an error: OK before
// the op that failed, its own code for that one, RuntimeInconsistency after it (DataTree.processTxn).
func (x *txn) multi() jute.Code {
	before := x.t.totals
	x.t.begin()
	err := x.all()
	if err != jute.OK {
		x.t.rollback(before)
		return err
	}
	x.t.commit()
	return jute.OK
}

// all does the ops until one fails. The journal is open.
func (x *txn) all() jute.Code {
	ops := x.e.Ops
	x.out.Results = make([]Result, len(ops))
	x.out.Changes = slices.Grow(x.out.Changes, 2*len(ops)) // a register has told of what it removed
	for i := range ops {
		r := x.do(&ops[i])
		if r.Err == jute.OK {
			x.out.Results[i] = r
			continue
		}
		for j := range ops {
			code := jute.OK
			switch {
			case j == i:
				code = r.Err
			case j > i:
				code = jute.RuntimeInconsistency
			}
			x.out.Results[j] = Result{Type: jute.OpError, Err: code}
		}
		return r.Err
	}
	return jute.OK
}

// do applies one op.
func (x *txn) do(op *jute.Op) Result {
	r := Result{Type: op.Type, Path: op.Path}
	switch op.Type {
	case jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL:
		r.Path, r.Stat, r.Err = x.create(op)
	case jute.OpDelete:
		r.Err = x.delete(op)
	case jute.OpSetData:
		r.Stat, r.Err = x.setData(op)
	case jute.OpSetACL:
		r.Stat, r.Err = x.setACL(op)
	case jute.OpCheck:
		r.Err = x.check(op)
	case OpEnsure:
		r.Err = x.ensure(op)
	default:
		r.Err = jute.Unimplemented
	}
	return r
}

// checkSession is SessionTracker.checkSession: the session is open, and the box that it asks through is the one that it
// is attached to. Boxes ask without a session, and for sessions that they alone know.
func (x *txn) checkSession() jute.Code {
	if (x.acc.Internal || x.e.has(FlagLocal)) && x.e.Session == 0 {
		return jute.OK
	}
	s := x.t.sessions[x.e.Session]
	if s == nil {
		return jute.SessionExpired
	}
	if x.e.Box != 0 && s.box != x.e.Box {
		return jute.SessionMoved
	}
	return jute.OK
}

func (x *txn) setRules() jute.Code {
	if !x.acc.Internal || x.e.Rules <= x.t.rules {
		return jute.BadArguments
	}
	// Beyond what this build knows too: the number must be the same on every box, and the owner stops this one.
	x.t.rules = x.e.Rules
	return jute.OK
}

// SecretMin is the least length of the session secret in bytes.
const SecretMin = 16

func (x *txn) setSecret() jute.Code {
	switch {
	case !x.acc.Internal || len(x.e.Data) < SecretMin:
		return jute.BadArguments
	case x.t.secret != nil:
		return jute.NodeExists
	}
	x.t.secret = slices.Clone(x.e.Data)
	return jute.OK
}

// changed appends a change of a node as it is now.
func (x *txn) changed(kind jute.EventType, path string, id nodeID) {
	if path == "" {
		path = "/"
	}
	x.out.Changes = append(x.out.Changes, Change{
		Kind: kind, Path: path, Zxid: x.zxid,
		ACL: x.t.acls.list(x.t.node(id).acl), Data: x.t.data(id), Stat: x.t.stat(id),
	})
}
