package znode

import (
	"fmt"
	"strings"

	"cairn/engine/ensemble/jute"
)

// ttlMax is the longest TTL in milliseconds: 40 bits (EphemeralType.TTL).
const ttlMax = 1<<40 - 1

// The checks of each op stand in the order of PrepRequestProcessor, because a client can tell which came first. Nothing
// is changed before the last check.

// create applies the four creates. The mode's flags say sequential and ephemeral; container and TTL come from the op, as
// in DataTree.processTxn (a plain create with the container flag makes a persistent node).
func (x *txn) create(op *jute.Op) (string, jute.Stat, jute.Code) {
	t := x.t
	mode := jute.CreateMode(op.Flags)
	if err := x.checkMode(op, mode); err != jute.OK {
		return "", jute.Stat{}, err
	}
	if err := x.checkSession(); err != jute.OK {
		return "", jute.Stat{}, err
	}
	parentPath, _, ok := jute.SplitPath(op.Path)
	if !ok || strings.IndexByte(op.Path, 0) >= 0 {
		return "", jute.Stat{}, jute.BadArguments
	}
	if x.mayNotWrite(parentPath) {
		return "", jute.Stat{}, jute.NoAuth
	}
	acl, err := x.fixACL(op.ACL)
	if err != jute.OK {
		return "", jute.Stat{}, err
	}
	parent, hash := t.lookup(parentPath)
	if parent == 0 {
		return "", jute.Stat{}, jute.NoNode
	}
	if !x.permits(parent, jute.PermCreate) {
		return "", jute.Stat{}, jute.NoAuth
	}
	path := op.Path
	if mode.Sequential() {
		path = fmt.Sprintf("%s%010d", path, t.node(parent).cversion)
	}
	if !jute.ValidPath(path) {
		return "", jute.Stat{}, jute.BadArguments
	}
	if x.mayNotWrite(path) {
		return "", jute.Stat{}, jute.NoAuth
	}
	name := path[len(parentPath)+1:]
	if path == "/" || t.index.find(t, parent, name) != 0 {
		return "", jute.Stat{}, jute.NodeExists
	}
	if t.node(parent).kind == kindEphemeral {
		return "", jute.Stat{}, jute.NoChildrenForEphemerals
	}
	if err := x.checkQuota(path, int64(len(op.Data)), 1); err != jute.OK {
		return "", jute.Stat{}, err
	}
	in := insertion{
		path: path, name: name, data: op.Data, kind: kindPersistent, acl: t.acls.intern(acl), zxid: x.zxid, time: x.time,
	}
	switch {
	case op.Type == jute.OpCreateContainer:
		in.kind = kindContainer
	case op.Type == jute.OpCreateTTL:
		in.kind, in.owner = kindTTL, op.TTL
	case mode.Ephemeral():
		if t.sessions[x.owner] == nil {
			return "", jute.Stat{}, jute.SessionExpired
		}
		in.kind, in.owner = kindEphemeral, x.owner
	}
	id := x.createNode(parent, hash, in)
	return path, t.stat(id), jute.OK
}

// checkMode is validateCreateRequest without the session.
func (x *txn) checkMode(op *jute.Op, mode jute.CreateMode) jute.Code {
	switch {
	case !mode.Valid():
		return jute.BadArguments
	case mode.TTL() && !x.e.has(FlagExtendedTypes):
		return jute.Unimplemented
	case mode.TTL() != (op.Type == jute.OpCreateTTL):
		return jute.BadArguments
	case mode.TTL() && (op.TTL <= 0 || op.TTL > ttlMax):
		return jute.BadArguments
	}
	return jute.OK
}

// createNode makes the node, moves the parent's counters, keeps the quotas and tells of the changes.
func (x *txn) createNode(parent nodeID, hash uint64, in insertion) nodeID {
	t := x.t
	t.touch(parent)
	t.nodeSum -= t.metaSum(parent, hash)
	p := t.node(parent)
	p.cversion++
	p.pzxid = x.zxid
	t.nodeSum += t.metaSum(parent, hash)
	id := t.insert(parent, hash, in)
	x.recount(in.path, int64(len(in.data)), 1)
	parentPath := in.path[:len(in.path)-len(in.name)-1]
	x.quotaCreated(parentPath, in.name)
	x.countQuota(in.path, int64(len(in.data)), 1)
	x.changed(jute.EventNodeCreated, in.path, id)
	x.changed(jute.EventNodeChildrenChanged, parentPath, parent)
	return id
}

// delete applies a delete.
func (x *txn) delete(op *jute.Op) jute.Code {
	t := x.t
	if err := x.checkSession(); err != jute.OK {
		return err
	}
	parentPath, _, ok := jute.SplitPath(op.Path)
	if !ok || strings.IndexByte(op.Path, 0) >= 0 || isSpecial(op.Path) {
		return jute.BadArguments
	}
	if x.mayNotWrite(op.Path) {
		return jute.NoAuth
	}
	parent, _ := t.lookup(parentPath)
	if parent == 0 {
		return jute.NoNode
	}
	if !x.permits(parent, jute.PermDelete) {
		return jute.NoAuth
	}
	// By the whole path, which a delete does not validate: the parent of "//x" is the root, "/x" another node, and what
	// was asked above of special and protected paths was asked of "//x".
	id := t.find(op.Path)
	if id == 0 {
		return jute.NoNode
	}
	if op.Version != -1 && op.Version != t.node(id).version {
		return jute.BadVersion
	}
	if t.node(id).children > 0 {
		return jute.NotEmpty
	}
	x.deleteNode(op.Path)
	return jute.OK
}

// deleteNode takes a node out that is there and has no children.
func (x *txn) deleteNode(path string) {
	t := x.t
	id, hash := t.lookup(path)
	parentPath, name, _ := jute.SplitPath(path)
	parent, parentHash := t.lookup(parentPath)
	size := t.dataLen(id)
	x.changed(jute.EventNodeDeleted, path, id)
	t.touch(parent)
	t.nodeSum -= t.metaSum(parent, parentHash)
	t.node(parent).pzxid = x.zxid
	t.nodeSum += t.metaSum(parent, parentHash)
	t.remove(id, hash, len(path))
	x.recount(path, -int64(size), -1)
	x.quotaDeleted(parentPath, name)
	x.countQuota(path, -int64(size), -1)
	x.changed(jute.EventNodeChildrenChanged, parentPath, parent)
}

// setData applies a setData.
func (x *txn) setData(op *jute.Op) (jute.Stat, jute.Code) {
	t := x.t
	if err := x.checkSession(); err != jute.OK {
		return jute.Stat{}, err
	}
	if !jute.ValidPath(op.Path) {
		return jute.Stat{}, jute.BadArguments
	}
	if x.mayNotWrite(op.Path) {
		return jute.Stat{}, jute.NoAuth
	}
	id, hash := t.lookup(op.Path)
	if id == 0 {
		return jute.Stat{}, jute.NoNode
	}
	if !x.permits(id, jute.PermWrite) {
		return jute.Stat{}, jute.NoAuth
	}
	if err := x.checkQuota(op.Path, int64(len(op.Data)-t.dataLen(id)), 0); err != jute.OK {
		return jute.Stat{}, err
	}
	version := t.node(id).version
	if op.Version != -1 && op.Version != version {
		return jute.Stat{}, jute.BadVersion
	}
	x.replaceData(id, hash, op.Path, op.Data, version+1)
	return t.stat(id), jute.OK
}

// replaceData changes data, version, mzxid and mtime of a node, keeps the quotas and tells of the change.
func (x *txn) replaceData(id nodeID, hash uint64, path string, data []byte, version int32) {
	t := x.t
	grown := int64(len(data) - t.dataLen(id))
	t.unsum(id, hash)
	t.setData(id, data)
	n := t.node(id)
	n.version, n.mzxid, n.mtime = version, x.zxid, x.time
	t.sum(id, hash)
	x.recount(path, grown, 0)
	x.countQuota(path, grown, 0)
	x.changed(jute.EventNodeDataChanged, path, id)
}

// setACL applies a setACL.
func (x *txn) setACL(op *jute.Op) (jute.Stat, jute.Code) {
	t := x.t
	if err := x.checkSession(); err != jute.OK {
		return jute.Stat{}, err
	}
	if !jute.ValidPath(op.Path) {
		return jute.Stat{}, jute.BadArguments
	}
	if x.mayNotWrite(op.Path) {
		return jute.Stat{}, jute.NoAuth
	}
	acl, err := x.fixACL(op.ACL)
	if err != jute.OK {
		return jute.Stat{}, err
	}
	id, hash := t.lookup(op.Path)
	if id == 0 {
		return jute.Stat{}, jute.NoNode
	}
	if !x.permits(id, jute.PermAdmin) {
		return jute.Stat{}, jute.NoAuth
	}
	if op.Version != -1 && op.Version != t.node(id).aversion {
		return jute.Stat{}, jute.BadVersion
	}
	t.nodeSum -= t.metaSum(id, hash)
	t.setACL(id, t.acls.intern(acl))
	t.node(id).aversion++
	t.nodeSum += t.metaSum(id, hash)
	x.changed(jute.EventNone, op.Path, id)
	return t.stat(id), jute.OK
}

// check applies a check of a version.
func (x *txn) check(op *jute.Op) jute.Code {
	t := x.t
	if err := x.checkSession(); err != jute.OK {
		return err
	}
	if !jute.ValidPath(op.Path) {
		return jute.BadArguments
	}
	if hidden(op.Path, x.acc) {
		return jute.NoAuth
	}
	id := t.find(op.Path)
	if id == 0 {
		return jute.NoNode
	}
	if !x.permits(id, jute.PermRead) {
		return jute.NoAuth
	}
	if op.Version != -1 && op.Version != t.node(id).version {
		return jute.BadVersion
	}
	return jute.OK
}

// ensure applies OpEnsure. In a single op a failure at a deeper level cannot follow a success: all names are checked
// first.
func (x *txn) ensure(op *jute.Op) jute.Code {
	t := x.t
	if !x.acc.Internal {
		return jute.Unimplemented
	}
	if !jute.ValidPath(op.Path) {
		return jute.BadArguments
	}
	acl, err := x.fixACL(op.ACL)
	if err != jute.OK {
		return err
	}
	parent, hash := rootID, uint64(sumRoot)
	for end := 0; end < len(op.Path) && op.Path != "/"; {
		start := end + 1
		end = len(op.Path)
		if i := strings.IndexByte(op.Path[start:], '/'); i >= 0 {
			end = start + i
		}
		name := op.Path[start:end]
		id := t.index.find(t, parent, name)
		if id == 0 {
			if t.node(parent).kind == kindEphemeral {
				return jute.NoChildrenForEphemerals // only the first missing name can meet one
			}
			in := insertion{
				path: op.Path[:end], name: name, data: []byte{}, kind: kindPersistent, acl: t.acls.intern(acl),
				zxid: x.zxid, time: x.time,
			}
			if end == len(op.Path) {
				in.data = op.Data
			}
			id = x.createNode(parent, hash, in)
		}
		parent, hash = id, pathHash(hash, name)
	}
	return jute.OK
}

// isSpecial tells the nodes that cannot be deleted (DataTree.isSpecialPath).
func isSpecial(path string) bool {
	return path == "/" || path == pathZooKeeper || path == pathQuota || path == pathConfig
}
