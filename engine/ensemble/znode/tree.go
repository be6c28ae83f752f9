package znode

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"cairn/engine/ensemble/jute"
)

// Paths that exist at birth.
const (
	pathZooKeeper = "/zookeeper"
	pathQuota     = "/zookeeper/quota"
	pathConfig    = "/zookeeper/config"
)

// Tree is the whole replicated state. Its methods that read may run together; Apply, and everything else that changes
// it, must run alone: the owner's lock sees to that.
type Tree struct {
	nodes  []*[chunkNodes]node
	blobs  []*[chunkNodes]string
	index  index
	acls   aclTable
	quotas quotaTrie

	sessions map[int64]*session
	boxes    map[uint64]int64 // box → its session

	zxid   int64
	timeMs int64
	rules  uint32
	secret []byte

	staging  *staging // a backup that is being brought in; nil mostly
	restored uint64   // the backup that took the place of the users' tree last; 0: none did

	totals

	cut      *Cut
	journal  map[nodeID]preimage // of the multi that is being applied
	journals bool                // whether one is
}

// totals are the counters that a failed multi gives back.
type totals struct {
	live       int    // nodes
	high, free nodeID // ids below high were used; free begins the list of free ones
	freeCount  int
	ephemerals int
	containers int
	ttls       int
	blobBytes  int64 // approximate, of names and data
	dataSize   int64 // as ZooKeeper's approximate_data_size: paths and data
	nodeSum    uint64
	sessionSum uint64
}

// preimage is what a node was before its first change.
type preimage struct {
	node node
	blob string
}

// New gives the tree that ZooKeeper is born with: /, /zookeeper, /zookeeper/quota and /zookeeper/config, all with zero
// stats. It has no secret, no session, and zxid 0.
func New() *Tree {
	t := empty()
	t.rules = 1
	*t.node(rootID) = node{kind: kindPersistent, hasData: true}
	t.acls.hold(0)
	t.live = 1
	t.dataSize = 1
	t.nodeSum = t.metaSum(rootID, sumRoot) + t.dataSum(rootID, sumRoot)
	for _, path := range [...]string{pathZooKeeper, pathConfig, pathQuota} {
		parent, name, _ := jute.SplitPath(path)
		p, hash := t.lookup(parent)
		id := t.insert(p, hash, insertion{path: path, name: name, kind: kindPersistent, data: []byte{}})
		if path == pathConfig {
			hash = pathHash(hash, name)
			t.unsum(id, hash)
			t.setACL(id, t.acls.intern(jute.ReadACL()))
			t.node(id).aversion = -1
			t.sum(id, hash)
		}
	}
	t.acls.sweep()
	return t
}

// empty gives a tree with the root's place taken and nothing in it.
func empty() *Tree {
	t := &Tree{
		acls:     newACLTable(),
		sessions: make(map[int64]*session),
		boxes:    make(map[uint64]int64),
	}
	t.index.seed = maphash.MakeSeed()
	t.nodes = append(t.nodes, new([chunkNodes]node))
	t.blobs = append(t.blobs, new([chunkNodes]string))
	t.high = rootID + 1
	return t
}

// Zxid is the zxid of the last applied entry.
func (t *Tree) Zxid() int64 { return t.zxid }

// TimeMs is the time of the last applied entry. A leader stamps max(its clock, TimeMs).
func (t *Tree) TimeMs() int64 { return t.timeMs }

// Rules is the rules version that entries are applied under. Above RulesVersion this build must apply no more: the box
// stops and is updated.
func (t *Tree) Rules() uint32 { return t.rules }

// HasSecret tells whether the cluster's session secret was set.
func (t *Tree) HasSecret() bool { return t.secret != nil }

// NodeCount is the number of nodes as ZooKeeper shows it: the root counts twice.
func (t *Tree) NodeCount() int { return t.live + 1 }

// EphemeralsCount is the number of ephemeral nodes.
func (t *Tree) EphemeralsCount() int { return t.ephemerals }

// ContainersCount and TTLCount are the numbers of nodes that a reaper looks for.
func (t *Tree) ContainersCount() int { return t.containers }

// TTLCount is the number of TTL nodes.
func (t *Tree) TTLCount() int { return t.ttls }

// DataSize is ZooKeeper's approximate_data_size: the bytes of all paths and data.
func (t *Tree) DataSize() int64 { return t.dataSize }

// Password is what a client proves with that a session is its own: HMAC-SHA256 of the session's id under the cluster's
// secret, cut to 16 bytes. It is derived and never stored; ZooKeeper's is as long and derived from the id alone, which
// anybody can do.
func (t *Tree) Password(session int64) [16]byte {
	m := hmac.New(sha256.New, t.secret)
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], uint64(session))
	m.Write(id[:])
	return [16]byte(m.Sum(nil))
}

// CheckPassword compares in constant time.
func (t *Tree) CheckPassword(session int64, passwd []byte) bool {
	want := t.Password(session)
	return hmac.Equal(want[:], passwd)
}

// touch must come before every change of a node: it saves what the node was for the open cut and the running multi.
func (t *Tree) touch(id nodeID) {
	if t.cut != nil {
		t.cut.save(t, id)
	}
	t.touchLinks(id)
}

// touchLinks is touch for a change of the links to siblings alone, which a snapshot does not hold.
func (t *Tree) touchLinks(id nodeID) {
	if !t.journals {
		return
	}
	if _, saved := t.journal[id]; !saved {
		t.journal[id] = preimage{node: *t.node(id), blob: t.blob(id)}
	}
}

// begin opens the journal: rollback then takes back what was changed since.
func (t *Tree) begin() {
	t.quotas.begin()
	if t.journal == nil {
		t.journal = make(map[nodeID]preimage)
	}
	t.journals = true
}

// commit closes the journal.
func (t *Tree) commit() {
	t.journals = false
	t.quotas.commit()
	if len(t.journal) > 1024 {
		t.journal = nil // a rare large one is not kept for ever
	}
	clear(t.journal)
}

// rollback gives the nodes back what they were, and closes the journal. The order of the map does not matter: every
// node is restored by itself, in two passes because ids and names may have been used again.
func (t *Tree) rollback(before totals) {
	t.journals = false
	for id := range t.journal {
		if n := t.node(id); n.kind != kindFree {
			if id != rootID { // which nobody looks up by a name
				t.index.remove(n.parent, t.name(id), id)
			}
			t.acls.drop(n.acl)
			t.disown(id)
		}
	}
	for id, pre := range t.journal {
		*t.node(id) = pre.node
		t.blobs[id/chunkNodes][id%chunkNodes] = pre.blob
	}
	for id, pre := range t.journal {
		if pre.node.kind != kindFree {
			if id != rootID {
				t.index.add(pre.node.parent, pre.blob[:pre.node.nameLen], id)
			}
			t.acls.hold(pre.node.acl)
			t.own(id)
		}
	}
	t.totals = before
	t.quotas.undo()
	t.commit()
}

// own puts an ephemeral into its session's set.
func (t *Tree) own(id nodeID) {
	n := t.node(id)
	if n.kind != kindEphemeral {
		return
	}
	if s := t.sessions[n.owner]; s != nil {
		if s.ephemerals == nil {
			s.ephemerals = make(map[nodeID]struct{})
		}
		s.ephemerals[id] = struct{}{}
	}
}

// disown takes an ephemeral out of its session's set.
func (t *Tree) disown(id nodeID) {
	n := t.node(id)
	if n.kind != kindEphemeral {
		return
	}
	if s := t.sessions[n.owner]; s != nil {
		delete(s.ephemerals, id)
	}
}

// sum enters a node into the digest; unsum takes it out. Both are called around every change.
func (t *Tree) sum(id nodeID, path uint64)   { t.nodeSum += t.metaSum(id, path) + t.dataSum(id, path) }
func (t *Tree) unsum(id nodeID, path uint64) { t.nodeSum -= t.metaSum(id, path) + t.dataSum(id, path) }

// insertion is a node to be made.
type insertion struct {
	path, name string
	data       []byte // nil: null
	kind       nodeKind
	owner      int64
	acl        aclID
	zxid, time int64
}

// insert makes a node below parent, whose path has the hash. It changes none of the parent's counters of changes.
func (t *Tree) insert(parent nodeID, hash uint64, in insertion) nodeID {
	id := t.alloc()
	*t.node(id) = node{
		czxid: in.zxid, mzxid: in.zxid, pzxid: in.zxid, ctime: in.time, mtime: in.time,
		owner: in.owner, acl: in.acl, kind: in.kind, nameLen: uint32(len(in.name)), hasData: in.data != nil,
	}
	t.setBlob(id, makeBlob(in.name, in.data))
	t.acls.hold(in.acl)
	t.touchLinks(parent)
	t.link(parent, id)
	t.index.add(parent, in.name, id)
	t.sum(id, pathHash(hash, in.name))
	t.count(id, 1, len(in.path))
	t.own(id)
	return id
}

// remove takes a node without children out. The caller has touched it and changed the parent's counters.
func (t *Tree) remove(id nodeID, hash uint64, pathLen int) {
	n := t.node(id)
	t.touch(id)
	t.touchLinks(n.parent)
	t.unsum(id, hash)
	t.count(id, -1, pathLen)
	t.disown(id)
	t.acls.drop(n.acl)
	t.index.remove(n.parent, t.name(id), id)
	t.unlink(id)
	t.release(id)
}

// count keeps the counters of a node that comes (1) or goes (-1).
func (t *Tree) count(id nodeID, d, pathLen int) {
	t.live += d
	t.dataSize += int64(d) * int64(pathLen+t.dataLen(id))
	switch t.node(id).kind {
	case kindEphemeral:
		t.ephemerals += d
	case kindContainer:
		t.containers += d
	case kindTTL:
		t.ttls += d
	}
}

// setACL changes the list of a node; sums are the caller's.
func (t *Tree) setACL(id nodeID, acl aclID) {
	t.touch(id)
	n := t.node(id)
	t.acls.hold(acl)
	t.acls.drop(n.acl)
	n.acl = acl
}

// setData changes the data of a node; sums are the caller's.
func (t *Tree) setData(id nodeID, data []byte) {
	t.touch(id)
	n := t.node(id)
	t.dataSize += int64(len(data) - t.dataLen(id))
	t.setBlob(id, makeBlob(t.name(id), data))
	n.hasData = data != nil
}

// sortedKeys are the ids of the sessions in order, so that no order of a map is seen.
func sortedKeys[V any, K int64 | uint64](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
