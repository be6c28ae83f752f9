package znode

import "cairn/engine/ensemble/jute"

// reap applies KindReap: each node by itself, so that one that was used since does not keep the others.
func (x *txn) reap() jute.Code {
	if !x.acc.Internal {
		return jute.BadArguments
	}
	x.out.Results = make([]Result, len(x.e.Ops))
	for i := range x.e.Ops {
		path := x.e.Ops[i].Path
		r := Result{Type: jute.OpDeleteContainer, Path: path, Err: jute.OK}
		if id := x.t.find(path); id == 0 {
			r.Err = jute.NoNode
		} else if r.Err = x.t.reapable(id, x.time, x.e.NeverUsedMs); r.Err == jute.OK {
			x.deleteNode(path)
		}
		x.out.Results[i] = r
	}
	return jute.OK
}

// reapable tells whether a node is a container or TTL node whose time has come (ContainerManager.getCandidates): it has
// no children, and is a container that had one (or never had, for longer than neverUsedMs if that is not 0), or a TTL
// node unchanged for longer than its TTL.
func (t *Tree) reapable(id nodeID, nowMs, neverUsedMs int64) jute.Code {
	n := t.node(id)
	switch {
	case n.kind != kindContainer && n.kind != kindTTL:
		return jute.BadVersion
	case n.children > 0:
		return jute.NotEmpty
	case n.kind == kindTTL && nowMs-n.mtime > n.owner,
		n.kind == kindContainer && n.cversion > 0,
		n.kind == kindContainer && neverUsedMs > 0 && nowMs-n.mtime > neverUsedMs:
		return jute.OK
	}
	return jute.BadVersion
}

// Reapable looks for nodes to reap among at most scan nodes from cursor (0 begins), and gives at most most of their
// paths as ops for KindReap, and the cursor to go on with, which is 0 when all were looked at. The caller holds the read
// lock; the cursor outlives it.
func (t *Tree) Reapable(cursor uint32, scan, most int, nowMs, neverUsedMs int64) (ops []jute.Op, next uint32) {
	if t.containers == 0 && t.ttls == 0 {
		return nil, 0
	}
	id := max(nodeID(cursor), rootID)
	for ; id < t.high && scan > 0 && len(ops) < most; id++ {
		scan--
		if k := t.node(id).kind; k != kindContainer && k != kindTTL {
			continue
		}
		if t.reapable(id, nowMs, neverUsedMs) == jute.OK {
			ops = append(ops, jute.Op{Type: jute.OpDeleteContainer, Path: t.path(id)})
		}
	}
	if id >= t.high {
		return ops, 0
	}
	return ops, uint32(id)
}
