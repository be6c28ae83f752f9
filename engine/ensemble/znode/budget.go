package znode

import (
	"strings"

	"cairn/engine/ensemble/jute"
)

// Bytes is about what the tree takes in memory: the tables up to the highest id that was used, names and data, ACLs,
// sessions and their ephemerals. It differs between boxes by how they came to the same tree.
func (t *Tree) Bytes() int64 {
	return int64(t.high)*nodeBytes + t.blobBytes + t.acls.bytes +
		int64(len(t.sessions))*sessionBytes + int64(t.ephemerals)*ephemeralBytes
}

// WouldGrow is about how much an entry adds to Bytes at most, were it to succeed. The leader refuses an entry that grows
// the tree beyond its budget before it proposes it; what grows nothing (deletes, closes, smaller data) is never refused
// for memory. Apply refuses nothing.
func (t *Tree) WouldGrow(e *Entry) int64 {
	switch e.Kind {
	case KindCreateSession:
		return sessionBytes
	case KindSetSecret:
		return int64(len(e.Data))
	case KindStage:
		return stageGrowth * int64(len(e.Data))
	case KindOp, KindMulti, KindRegister, KindReconfig:
	default:
		return 0
	}
	free := t.freeCount
	var grow int64
	if e.Kind == KindReconfig {
		grow = int64(len(e.Data))
	}
	auth := 0 // what an ACL of the scheme auth may become
	for i := range e.Auth {
		auth += aclSize(&e.Auth[i])
	}
	for i := range e.Ops {
		op := &e.Ops[i]
		switch op.Type {
		case jute.OpCreate, jute.OpCreate2, jute.OpCreateContainer, jute.OpCreateTTL, OpEnsure:
			grow += blobBytes(len(lastName(op.Path))+10+len(op.Data)) + ephemeralBytes + growACL(op.ACL, auth)
			if free--; free < 0 {
				grow += nodeBytes
			}
		case jute.OpSetData:
			was := int64(0) // a node that an earlier op of the same entry makes
			name := len(lastName(op.Path))
			if id := t.find(op.Path); id != 0 {
				was = blobBytes(len(t.blob(id)))
				name = len(t.name(id)) // one string holds both, and is rounded up as one
			} else if len(e.Ops) == 1 {
				continue
			}
			grow += max(blobBytes(name+len(op.Data))-was, 0)
		case jute.OpSetACL:
			grow += growACL(op.ACL, auth)
		}
	}
	return grow
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// growACL is what a list takes if no node has it yet; auth are the bytes that one of the scheme auth is expanded to.
func growACL(acls []jute.ACL, auth int) int64 {
	if len(acls) <= 1 && (len(acls) == 0 || acls[0].ID == jute.AnyoneID()) {
		return 0
	}
	n, expanded := 4, 0
	for i := range acls {
		if acls[i].ID.Scheme == jute.SchemeAuth {
			expanded = min(expanded+auth, aclExpandedMax) // beyond it the entry fails
			continue
		}
		n += aclSize(&acls[i].ID)
	}
	return aclBytes(n + expanded)
}
