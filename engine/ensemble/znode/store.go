package znode

import (
	"strings"

	"cairn/engine/ensemble/jute"
)

// nodeID names a node in this process. 0 is none, 1 the root. Boxes may number the same nodes differently.
type nodeID uint32

const rootID nodeID = 1

type nodeKind uint8

const (
	kindFree       nodeKind = 0
	kindPersistent nodeKind = 1
	kindEphemeral  nodeKind = 2 // owner: session id
	kindContainer  nodeKind = 3
	kindTTL        nodeKind = 4 // owner: TTL in milliseconds
)

// node holds no pointer. Its name and data are its blob.
type node struct {
	czxid, mzxid, pzxid         int64
	ctime, mtime                int64
	owner                       int64
	version, cversion, aversion int32  // cversion counts creates only; clients see 2*cversion - children
	parent, first, next, prev   nodeID // siblings: the first's prev is the last; the last's next is 0. A free node's next is the next free one
	children                    uint32
	acl                         aclID
	nameLen                     uint32
	kind                        nodeKind
	hasData                     bool // false: null, which is not empty
}

const (
	chunkNodes = 512
	// nodeBytes is what a node takes in the tables, whatever it holds.
	nodeBytes = 96 + 16 + indexBytes
)

func (t *Tree) node(id nodeID) *node { return &t.nodes[id/chunkNodes][id%chunkNodes] }

// blob is the node's name and data, immutable.
func (t *Tree) blob(id nodeID) string { return t.blobs[id/chunkNodes][id%chunkNodes] }

func (t *Tree) name(id nodeID) string { return t.blob(id)[:t.node(id).nameLen] }

// data of a node, immutable; nil is null.
func (t *Tree) data(id nodeID) []byte {
	n := t.node(id)
	if !n.hasData {
		return nil
	}
	return viewBytes(t.blob(id)[n.nameLen:])
}

func (t *Tree) dataLen(id nodeID) int { return len(t.blob(id)) - int(t.node(id).nameLen) }

func (t *Tree) setBlob(id nodeID, blob string) {
	t.totals.blobBytes += blobBytes(len(blob)) - blobBytes(len(t.blob(id)))
	t.blobs[id/chunkNodes][id%chunkNodes] = blob
}

// makeBlob joins a name and data to a node's blob.
func makeBlob(name string, data []byte) string {
	var b strings.Builder
	b.Grow(len(name) + len(data))
	b.WriteString(name)
	b.Write(data)
	return b.String()
}

// blobBytes is about what the allocator takes for n bytes.
func blobBytes(n int) int64 {
	if n <= 512 {
		return int64(n+15) &^ 15
	}
	return int64(n) + int64(n)/16
}

// alloc gives a free id; the caller fills the node in.
func (t *Tree) alloc() nodeID {
	id := t.free
	if id != 0 {
		t.touch(id)
		t.free = t.node(id).next
		t.freeCount--
		return id
	}
	if int(t.high)/chunkNodes == len(t.nodes) {
		t.nodes = append(t.nodes, new([chunkNodes]node))
		t.blobs = append(t.blobs, new([chunkNodes]string))
	}
	id = t.high
	t.touch(id)
	t.high++
	return id
}

// release makes an id free again; the caller has touched it.
func (t *Tree) release(id nodeID) {
	t.setBlob(id, "")
	*t.node(id) = node{next: t.free}
	t.free = id
	t.freeCount++
}

// link makes id the last child of parent.
func (t *Tree) link(parent, id nodeID) {
	p, n := t.node(parent), t.node(id)
	n.parent, n.next = parent, 0
	if p.first == 0 {
		p.first, n.prev = id, id
	} else {
		first := t.node(p.first)
		t.touchLinks(p.first)
		t.touchLinks(first.prev)
		n.prev = first.prev
		t.node(first.prev).next = id
		first.prev = id
	}
	p.children++
}

// unlink takes id out of its parent's children.
func (t *Tree) unlink(id nodeID) {
	n := t.node(id)
	p := t.node(n.parent)
	p.children--
	last := t.node(p.first).prev
	if n.next != 0 {
		t.touchLinks(n.next)
		t.node(n.next).prev = n.prev
	} else if p.first != id {
		t.touchLinks(p.first)
		t.node(p.first).prev = n.prev
	}
	if p.first == id {
		p.first = n.next
		if p.first != 0 {
			t.node(p.first).prev = last
		}
		return
	}
	t.touchLinks(n.prev)
	t.node(n.prev).next = n.next
}

// lookup finds a node by its path, as in ZooKeeper's table of whole paths: "" and "/" are the root, and anything that is
// not exactly a node's path is not found. The hash is that of the path, for sums.
func (t *Tree) lookup(path string) (id nodeID, hash uint64) {
	if path == "" || path == "/" {
		return rootID, sumRoot
	}
	if path[0] != '/' {
		return 0, 0
	}
	id, hash = rootID, sumRoot
	for rest := path[1:]; ; {
		name, after, more := strings.Cut(rest, "/")
		if id = t.index.find(t, id, name); id == 0 {
			return 0, 0
		}
		hash = pathHash(hash, name)
		if !more {
			return id, hash
		}
		rest = after
	}
}

// find is lookup without the hash, for reads.
func (t *Tree) find(path string) nodeID {
	if path == "" || path == "/" {
		return rootID
	}
	if path[0] != '/' {
		return 0
	}
	id := rootID
	for rest := path[1:]; ; {
		name, after, more := strings.Cut(rest, "/")
		if id = t.index.find(t, id, name); id == 0 || !more {
			return id
		}
		rest = after
	}
}

// path of a node, built from its ancestors.
func (t *Tree) path(id nodeID) string {
	if id == rootID {
		return "/"
	}
	size := 0
	for n := id; n != rootID; n = t.node(n).parent {
		size += 1 + int(t.node(n).nameLen)
	}
	b := make([]byte, size)
	for n := id; n != rootID; n = t.node(n).parent {
		name := t.name(n)
		size -= len(name)
		copy(b[size:], name)
		size--
		b[size] = '/'
	}
	return string(b)
}

// stat is what clients see of a node (DataNode.copyStat).
func (t *Tree) stat(id nodeID) jute.Stat {
	n := t.node(id)
	s := jute.Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Ctime: n.ctime, Mtime: n.mtime,
		Version: n.version, Cversion: n.cversion*2 - int32(n.children), Aversion: n.aversion,
		DataLength: int32(t.dataLen(id)), NumChildren: int32(n.children), Pzxid: n.pzxid,
	}
	if n.kind == kindEphemeral {
		s.EphemeralOwner = n.owner
	}
	return s
}
