package znode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cairn/engine/ensemble/jute"
)

// A backup is the users' part of a tree: every node but those below /cairn, which are the boxes' own, /zookeeper/config,
// which says who the members are, and the ephemerals, which are nothing without their sessions. It is a stream:
//
//	magic    8 bytes "cairnbk1"
//	frames   {length uint32 LE, crc32c of the payload uint32 LE, payload}, as in a snapshot
//
// The payloads hold records, one after the other; a record does not cross a frame:
//
//	6 backup   zxid varint, timeMs varint: of the tree that it was taken of
//	2, 4       ACLs and nodes as in a snapshot (cut.go); a list comes before the first node that has it
//	7 end      nodes uvarint, left uvarint, recount 1 byte, sum 8 bytes LE
//
// 6 comes first, then the root, then nodes in the order of the ids that they have in the stream; a parent may come after
// its child. left is how many ephemerals were left out; recount says that the stats of quotas are to be counted anew, as
// ZooKeeper does with what it loads. The end is the last frame, alone; its sum is over the payloads of all frames before
// it, so that a stream that lacks one, has one twice or in another place is refused like one whose bits are wrong.

const backupMagic = "cairnbk1"

// BackupMagic is what a backup begins with.
const BackupMagic = backupMagic

const (
	recordBackup    = 6
	recordBackupEnd = 7
)

// BackupZxidMax is as high as a backup's zxid may be: above it a tree would soon not find room for the ids of its sessions.
// A ZooKeeper comes there after four million elections.
const BackupZxidMax = 1 << 54

// ErrTooLarge is wrapped by ReadBackup's error for a backup that is beyond the budget.
var ErrTooLarge = errors.New("backup too large")

// backupFacts is what is known of a backup besides its nodes.
type backupFacts struct {
	sum     uint64 // of the frames so far
	left    uint64 // ephemerals that are not in it
	recount bool   // stats of quotas are to be counted anew
}

// backupCut is what a Cut needs for a backup.
type backupCut struct {
	backupFacts
	cairn, config nodeID // at the cut; 0: there was none
	nodes         uint64
	listed        map[aclID]bool
}

// CutBackup marks the present state of the users' part. The rules are those of Cut: one is open at a time, of either kind.
func (t *Tree) CutBackup() (*Cut, error) {
	if t.cut != nil {
		return nil, ErrBusy
	}
	c := &Cut{
		t: t, next: rootID, limit: t.high, saved: make(map[nodeID]preimage), zxid: t.zxid, digest: t.Digest(),
		backup: &backupCut{cairn: t.find(PathCairn), config: t.find(pathConfig), listed: make(map[aclID]bool)},
	}
	h := append(c.header, recordBackup)
	c.header = binary.AppendVarint(binary.AppendVarint(h, t.zxid), t.timeMs)
	t.cut = c
	return c, nil
}

// Left is how many ephemerals a backup leaves out, known when it has been read to its end.
func (c *Cut) Left() int64 { return int64(c.backup.left) }

// Nodes is how many nodes a backup holds, known when it has been read to its end.
func (c *Cut) Nodes() int64 { return int64(c.backup.nodes) }

// leavesOut tells whether a node is none of the backup's, and counts those that a user may miss. It is asked once for
// each node.
func (b *backupCut) leavesOut(t *Tree, id nodeID) bool {
	n := t.node(id)
	if n.kind == kindFree || id == b.config {
		return true
	}
	for top := id; top != rootID; top = t.node(top).parent {
		if top == b.cairn {
			return true
		}
	}
	if n.kind != kindEphemeral {
		return false
	}
	b.left++
	return true
}

// list writes a list of ACLs before the first node that has it.
func (b *backupCut) list(dst []byte, t *Tree, acl aclID) []byte {
	if b.listed[acl] {
		return dst
	}
	b.listed[acl] = true
	return appendACLs(binary.AppendUvarint(append(dst, recordACLs), uint64(acl)), t.acls.list(acl))
}

func (b *backupCut) end(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, recordBackupEnd), b.nodes)
	dst = jute.AppendBool(binary.AppendUvarint(dst, b.left), b.recount)
	return binary.LittleEndian.AppendUint64(dst, b.sum)
}

func (s *restorer) backupEnd(d *decoder) {
	s.nodes, s.backup.left, s.backup.recount = d.uvarint(), d.uvarint(), d.byte() != 0
	if sum := d.uint64(); d.err == nil && sum != s.backup.sum {
		d.fail("the sum over all frames is %016x, written %016x", s.backup.sum, sum)
	}
	s.ended = d.err == nil
}

// finishBackup is finish for a backup.
func (s *restorer) finishBackup() error {
	if err := s.finish(); err != nil {
		return err
	}
	t := s.t
	for _, path := range [...]string{PathCairn, pathConfig} {
		if t.find(path) != 0 {
			return fmt.Errorf("%w: a backup that holds %s", ErrSnapshot, path)
		}
	}
	if t.zxid < 0 || t.zxid >= BackupZxidMax {
		return fmt.Errorf("%w: a backup taken at zxid %#x", ErrSnapshot, uint64(t.zxid))
	}
	return nil
}

// Backup is the users' part of a tree, by itself. It belongs to one goroutine.
type Backup struct {
	t     *Tree
	facts backupFacts
	sums  map[nodeID]uint64 // hashes of the paths of what was added
}

// NewBackup begins one of a tree whose last transaction was zxid, at timeMs. The root is to be added first.
func NewBackup(zxid, timeMs int64) *Backup {
	b := &Backup{t: empty(), sums: make(map[nodeID]uint64)}
	b.t.high, b.t.zxid, b.t.timeMs = rootID, zxid, timeMs
	return b
}

// ReadBackup reads a backup, to the end of r. One that is damaged, cut short or not a tree wraps ErrSnapshot, one that
// takes more than bytesMax of memory ErrTooLarge; 0 is no bound.
func ReadBackup(r io.Reader, bytesMax int64) (*Backup, error) {
	s := newRestorer()
	s.backup = &backupFacts{}
	if err := s.stream(r, backupMagic, bytesMax); err != nil {
		return nil, err
	}
	if err := s.finishBackup(); err != nil {
		return nil, err
	}
	return &Backup{t: s.t, facts: *s.backup}, nil
}

// NodeKind says what a Node is.
type NodeKind uint8

// The kinds of nodes that a backup holds.
const (
	Persistent = NodeKind(kindPersistent)
	Container  = NodeKind(kindContainer)
	TTL        = NodeKind(kindTTL)
)

// Node is one node of a Backup, as it is stored.
type Node struct {
	Path string
	Data []byte // immutable; nil is null
	ACL  []jute.ACL
	Kind NodeKind
	// TTLMs of a node of that kind, in milliseconds.
	TTLMs               int64
	Czxid, Mzxid, Pzxid int64
	Ctime, Mtime        int64
	// Cversion counts creations of children, as ZooKeeper stores it; clients are shown 2*Cversion less the children.
	Version, Cversion, Aversion int32
}

// Add adds a node behind its parent. An empty list of ACLs, which permits everything in ZooKeeper, becomes the open one.
func (b *Backup) Add(n Node) error {
	t, kind := b.t, nodeKind(n.Kind)
	if n.Path == "/" {
		if t.high != rootID {
			return errors.New("the root comes first and once")
		}
		t.high++
		b.fill(rootID, n, "")
		b.sums[rootID] = sumRoot
		t.count(rootID, 1, 1)
		t.sum(rootID, sumRoot)
		return nil
	}
	parentPath, name, ok := jute.SplitPath(n.Path)
	parent := t.find(parentPath)
	switch {
	case !ok || name == "" || t.high == rootID || parent == 0:
		return fmt.Errorf("%q comes before its parent", n.Path)
	case t.index.find(t, parent, name) != 0:
		return fmt.Errorf("%q comes twice", n.Path)
	case kind != kindPersistent && kind != kindContainer && kind != kindTTL:
		return fmt.Errorf("%q is of kind %d", n.Path, n.Kind)
	case kind == kindTTL && (n.TTLMs <= 0 || n.TTLMs > ttlMax):
		return fmt.Errorf("%q has a TTL of %d ms", n.Path, n.TTLMs)
	}
	id := t.alloc()
	b.fill(id, n, name)
	t.link(parent, id)
	t.index.add(parent, name, id)
	b.sums[id] = pathHash(b.sums[parent], name)
	t.count(id, 1, len(n.Path))
	t.sum(id, b.sums[id])
	return nil
}

func (b *Backup) fill(id nodeID, n Node, name string) {
	t := b.t
	acl := n.ACL
	if len(acl) == 0 {
		acl = jute.OpenACL()
	}
	*t.node(id) = node{
		czxid: n.Czxid, mzxid: n.Mzxid, pzxid: n.Pzxid, ctime: n.Ctime, mtime: n.Mtime,
		version: n.Version, cversion: n.Cversion, aversion: n.Aversion,
		kind: nodeKind(n.Kind), acl: t.acls.intern(acl), nameLen: uint32(len(name)), hasData: n.Data != nil,
	}
	if n.Kind == TTL {
		t.node(id).owner = n.TTLMs
	}
	t.setBlob(id, makeBlob(name, n.Data))
	t.acls.hold(t.node(id).acl)
}

// LeftOut notes how many ephemerals the source had, and that the stats of quotas are to be counted anew.
func (b *Backup) LeftOut(ephemerals int64) {
	b.facts.left, b.facts.recount = uint64(ephemerals), true
}

// Cut gives the backup as a stream. There is one at a time.
func (b *Backup) Cut() (*Cut, error) {
	c, err := b.t.CutBackup()
	if err != nil {
		return nil, err
	}
	c.backup.left, c.backup.recount = b.facts.left, b.facts.recount
	return c, nil
}

// Walk visits the nodes, parents first, until visit returns false.
func (b *Backup) Walk(visit func(n Node) bool) {
	t := b.t
	t.walk(rootID, func(id nodeID) bool {
		n := t.node(id)
		out := Node{
			Path: t.path(id), Data: t.data(id), ACL: t.acls.list(n.acl), Kind: NodeKind(n.kind),
			Czxid: n.czxid, Mzxid: n.mzxid, Pzxid: n.pzxid, Ctime: n.ctime, Mtime: n.mtime,
			Version: n.version, Cversion: n.cversion, Aversion: n.aversion,
		}
		if n.kind == kindTTL {
			out.TTLMs = n.owner
		}
		return visit(out)
	})
}

// Zxid of the last transaction of the tree that the backup was taken of.
func (b *Backup) Zxid() int64 { return b.t.zxid }

// TimeMs is the time of that transaction.
func (b *Backup) TimeMs() int64 { return b.t.timeMs }

// Nodes is how many nodes the backup holds, the root included.
func (b *Backup) Nodes() int { return b.t.live }

// Ephemerals is how many ephemerals were left out.
func (b *Backup) Ephemerals() int64 { return int64(b.facts.left) }

// Bytes is about what the backup takes in memory, and in a tree.
func (b *Backup) Bytes() int64 { return b.t.Bytes() }
