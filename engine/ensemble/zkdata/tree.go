package zkdata

import (
	"maps"
	"math"
	"slices"
	"strings"

	"cairn/engine/ensemble/jute"
)

// Node is one node as a ZooKeeper stores it. Data and ACL are not changed once they are there.
type Node struct {
	Data []byte // nil is null
	ACL  []jute.ACL
	// Owner is ephemeralOwner: 0, a session, or what marks a container or a TTL.
	Owner                       int64
	Czxid, Mzxid, Pzxid         int64
	Ctime, Mtime                int64
	Version, Cversion, Aversion int32
}

// Tree is a ZooKeeper's tree while its files are read. The root's path is "/".
type Tree struct {
	nodes map[string]*Node
	owned map[int64]map[string]struct{} // by a session
	left  int64                         // bytes that may still be kept
	// Zxid of the last transaction that was read.
	Zxid int64
	// Sessions that were open in the snapshot.
	Sessions int
}

// Paths gives the paths of all nodes whose ancestors are there, parents before their children.
func (t *Tree) Paths() []string {
	paths := slices.Sorted(maps.Keys(t.nodes))
	whole := make(map[string]bool, len(paths))
	return slices.DeleteFunc(paths, func(path string) bool {
		whole[path] = path == "/" || whole[parentOf(path)]
		return !whole[path]
	})
}

// Node at a path, or nil.
func (t *Tree) Node(path string) *Node { return t.nodes[path] }

// parentOf is the path of the parent; that of the root's children is the root's.
func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 1)] }

// put adds a node that is not there.
func (t *Tree) put(path string, n *Node) {
	t.nodes[path] = n
	if n.Owner != 0 {
		paths := t.owned[n.Owner]
		if paths == nil {
			paths = make(map[string]struct{})
			t.owned[n.Owner] = paths
		}
		paths[path] = struct{}{}
	}
}

// create is DataTree.createNode, for a tree that may know already what comes. A transaction that failed in ZooKeeper's
// eyes (no parent; the node is there) has the effects that it has there.
func (t *Tree) create(c *createTxn, owner int64, h *header) (exists bool) {
	parent := t.nodes[parentOf(c.path)]
	if parent == nil {
		return false
	}
	if old := t.nodes[c.path]; old != nil {
		old.ACL = c.acl
		return true
	}
	t.moveParent(parent, c.parentCversion, h.zxid)
	t.put(c.path, &Node{
		Data: c.data, ACL: c.acl, Owner: owner, Czxid: h.zxid, Mzxid: h.zxid, Pzxid: h.zxid, Ctime: h.time, Mtime: h.time,
	})
	return false
}

// moveParent counts a creation, unless the snapshot has counted it, or a later one, already. A transaction of an old
// ZooKeeper does not tell the count.
func (t *Tree) moveParent(parent *Node, cversion int32, zxid int64) {
	if cversion == -1 && parent.Cversion < math.MaxInt32 {
		cversion = parent.Cversion + 1
	}
	if cversion > parent.Cversion {
		parent.Cversion, parent.Pzxid = cversion, zxid
	}
}

// delete is DataTree.deleteNode. The parent's pzxid moves also where the node is gone already.
func (t *Tree) delete(path string, zxid int64) {
	parent := t.nodes[parentOf(path)]
	if parent == nil || path == "/" {
		return
	}
	parent.Pzxid = max(parent.Pzxid, zxid)
	n := t.nodes[path]
	if n == nil {
		return
	}
	delete(t.nodes, path)
	if paths := t.owned[n.Owner]; paths != nil {
		delete(paths, path)
		if len(paths) == 0 {
			delete(t.owned, n.Owner)
		}
	}
}

// closeSession is DataTree.killSession: what the transaction names goes, and what else the session owns.
func (t *Tree) closeSession(session int64, named []string, zxid int64) {
	owned := maps.Clone(t.owned[session])
	for _, path := range named {
		t.delete(path, zxid)
		delete(owned, path)
	}
	for path := range owned { // at one zxid: the order does not matter
		t.delete(path, zxid)
	}
}

// wholePath tells whether a path is one that a node below the root can have: without it the tree would come apart.
func wholePath(path string) bool {
	return len(path) > 1 && path[0] == '/' && path[len(path)-1] != '/' && !strings.Contains(path, "//")
}
