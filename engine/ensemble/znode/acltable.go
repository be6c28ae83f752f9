package znode

import "cairn/engine/ensemble/jute"

// aclID names an interned list of ACLs in this process. 0 is the open list, which is never freed.
type aclID uint32

// aclTable holds every list of ACLs once, however many nodes have it (ReferenceCountedACLCache).
type aclTable struct {
	entries []aclEntry
	ids     map[string]aclID // encoded list → id
	free    []aclID
	// unused are ids that may have lost their last node. They are freed by sweep, between entries and not while a cut is
	// open, so that a rollback and a snapshot find what they refer to.
	unused []aclID
	bytes  int64
}

type aclEntry struct {
	list []jute.ACL // immutable
	key  string
	sum  uint64
	refs uint32
}

func newACLTable() aclTable {
	x := aclTable{ids: make(map[string]aclID)}
	x.intern(jute.OpenACL())
	return x
}

// intern gives the id of a list; it takes no reference.
func (x *aclTable) intern(list []jute.ACL) aclID {
	var room [128]byte
	key := jute.AppendACLs(room[:0], list)
	if id, ok := x.ids[string(key)]; ok {
		return id
	}
	e := aclEntry{list: append([]jute.ACL(nil), list...), key: string(key)}
	e.sum = hashString(sumPrime1, e.key)
	x.bytes += aclBytes(len(e.key))
	var id aclID
	if n := len(x.free); n > 0 {
		id = x.free[n-1]
		x.free = x.free[:n-1]
		x.entries[id] = e
	} else {
		id = aclID(len(x.entries))
		x.entries = append(x.entries, e)
	}
	x.ids[e.key] = id
	x.unused = append(x.unused, id) // until a node takes it
	return id
}

// aclBytes is about what a list takes that encodes to n bytes: the list, its key, the map's entry.
func aclBytes(n int) int64 { return 160 + 4*int64(n) }

func (x *aclTable) list(id aclID) []jute.ACL { return x.entries[id].list }
func (x *aclTable) hash(id aclID) uint64     { return x.entries[id].sum }
func (x *aclTable) hold(id aclID)            { x.entries[id].refs++ }

func (x *aclTable) drop(id aclID) {
	e := &x.entries[id]
	e.refs--
	if e.refs == 0 {
		x.unused = append(x.unused, id)
	}
}

// sweep frees the lists that no node has.
func (x *aclTable) sweep() {
	for _, id := range x.unused {
		e := &x.entries[id]
		if id == 0 || e.refs != 0 || e.list == nil {
			continue
		}
		delete(x.ids, e.key)
		x.bytes -= aclBytes(len(e.key))
		*e = aclEntry{}
		x.free = append(x.free, id)
	}
	x.unused = x.unused[:0]
}
