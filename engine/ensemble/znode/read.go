package znode

import (
	"strings"

	"cairn/engine/ensemble/jute"
)

// Reads. The caller holds the read lock; what is returned is immutable and may be kept after it. Their checks are those
// of FinalRequestProcessor: no node, then the READ permission. Paths are not validated.

// readable finds a node that who may read.
func (t *Tree) readable(path string, who Access, perm int32) (nodeID, jute.Code) {
	if hidden(path, who) {
		return 0, jute.NoAuth
	}
	id := t.find(path)
	if id == 0 {
		return 0, jute.NoNode
	}
	if !t.permits(id, perm, who) {
		return 0, jute.NoAuth
	}
	return id, jute.OK
}

// Exists is the Stat of a node, or NoNode, NoAuth, BadArguments (a NUL in the path).
func (t *Tree) Exists(path string, who Access) (jute.Stat, jute.Code) {
	if strings.IndexByte(path, 0) >= 0 {
		return jute.Stat{}, jute.BadArguments
	}
	id, err := t.readable(path, who, jute.PermRead)
	if err != jute.OK {
		return jute.Stat{}, err
	}
	return t.stat(id), jute.OK
}

// Get is the data and Stat of a node, or NoNode, NoAuth. Null data is nil.
func (t *Tree) Get(path string, who Access) ([]byte, jute.Stat, jute.Code) {
	id, err := t.readable(path, who, jute.PermRead)
	if err != jute.OK {
		return nil, jute.Stat{}, err
	}
	return t.data(id), t.stat(id), jute.OK
}

// ACL is the list and Stat of a node, or NoNode, NoAuth. It takes READ or ADMIN; without ADMIN digests are masked.
func (t *Tree) ACL(path string, who Access) ([]jute.ACL, jute.Stat, jute.Code) {
	id, err := t.readable(path, who, jute.PermRead|jute.PermAdmin)
	if err != jute.OK {
		return nil, jute.Stat{}, err
	}
	acls := t.acls.list(t.node(id).acl)
	if !Permits(acls, jute.PermAdmin, who) {
		acls = MaskACL(acls)
	}
	return acls, t.stat(id), jute.OK
}

// Children are the names of a node's children, in the order of their creation, and its Stat, or NoNode, NoAuth.
func (t *Tree) Children(path string, who Access) ([]string, jute.Stat, jute.Code) {
	id, err := t.readable(path, who, jute.PermRead)
	if err != jute.OK {
		return nil, jute.Stat{}, err
	}
	names := make([]string, 0, t.node(id).children)
	for c := t.node(id).first; c != 0; c = t.node(c).next {
		names = append(names, t.name(c))
	}
	return names, t.stat(id), jute.OK
}

// AllChildrenNumber is the number of all descendants of a node, or NoNode, NoAuth.
func (t *Tree) AllChildrenNumber(path string, who Access) (int32, jute.Code) {
	id, err := t.readable(path, who, jute.PermRead)
	if err != jute.OK {
		return 0, err
	}
	if id == rootID {
		return int32(t.live - 1), jute.OK
	}
	count := int32(-1)
	t.walk(id, func(nodeID) bool { count++; return true })
	return count, jute.OK
}

// walk visits a node and its descendants, parents first, until visit returns false. It takes no memory: the links lead
// back.
func (t *Tree) walk(top nodeID, visit func(nodeID) bool) {
	for id := top; ; {
		if !visit(id) {
			return
		}
		n := t.node(id)
		if n.first != 0 {
			id = n.first
			continue
		}
		for id != top && t.node(id).next == 0 {
			id = t.node(id).parent
		}
		if id == top {
			return
		}
		id = t.node(id).next
	}
}

// Peek is Get without any check, for the boxes themselves.
func (t *Tree) Peek(path string) (data []byte, stat jute.Stat, ok bool) {
	id := t.find(path)
	if id == 0 {
		return nil, jute.Stat{}, false
	}
	return t.data(id), t.stat(id), true
}

// NodeACL is the list of a node without any check; nil when there is no node.
func (t *Tree) NodeACL(path string) []jute.ACL {
	id := t.find(path)
	if id == 0 {
		return nil
	}
	return t.acls.list(t.node(id).acl)
}

// Walk visits the node at path and its descendants, parents first, siblings in the order of their creation, until visit
// returns false. No node, no visit.
func (t *Tree) Walk(path string, visit func(path string, data []byte, stat jute.Stat) bool) {
	id := t.find(path)
	if id == 0 {
		return
	}
	t.walk(id, func(id nodeID) bool { return visit(t.path(id), t.data(id), t.stat(id)) })
}
