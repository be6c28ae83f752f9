package znode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
)

// ErrSnapshot is wrapped by every error of Restore that is not the reader's own: the stream is not a snapshot of a tree.
var ErrSnapshot = errors.New("malformed snapshot of the tree")

// FrameMax is the longest frame that Restore takes, in bytes. It must be above the largest node that clients may make.
const FrameMax = 256 << 20

// Restore reads a snapshot, to the end of r, into a new tree. Nothing is allocated from a length before the bytes are
// there. Ids are given anew, without the gaps that deletions left.
func Restore(r io.Reader) (*Tree, error) {
	s := newRestorer()
	if err := s.stream(r, snapshotMagic, 0); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	if got := s.t.Digest(); got != s.digest {
		return nil, fmt.Errorf("%w: digest %016x, written %016x", ErrSnapshot, got, s.digest)
	}
	return s.t, nil
}

// restorer makes a tree from the records of a snapshot or of a backup.
type restorer struct {
	t      *Tree
	buf    bytes.Buffer
	acls   map[uint64]aclID
	olds   []nodeID // the id that node i+1 had, rising
	nodes  uint64   // as the header, or a backup's end, says
	digest uint64
	headed bool
	ended  bool
	backup *backupFacts // nil: a snapshot

	// Of a backup: the nodes are linked as they come, so that little is left to do when it takes the place of a tree. places
	// has one for each node; loose are nodes that came before their parents.
	places []place
	loose  []nodeID
}

// place is what a node's own entries in sums and sizes follow from. A size of 0: it hangs on a loose one.
type place struct {
	hash uint64 // of its path
	size uint32 // of its path
}

func newRestorer() *restorer {
	s := &restorer{t: empty(), acls: map[uint64]aclID{}}
	s.t.high = rootID
	return s
}

// stream reads all frames, to the end of r. A tree of more than bytesMax is refused, unless that is 0.
func (s *restorer) stream(r io.Reader, magic string, bytesMax int64) error {
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(r, begin); err != nil {
		return fmt.Errorf("%w: magic: %w", ErrSnapshot, err)
	}
	if string(begin) != magic {
		return fmt.Errorf("%w: it begins with %q", ErrSnapshot, begin)
	}
	for frame := 0; !s.ended; frame++ {
		if err := s.frame(r); err != nil {
			return fmt.Errorf("frame %d: %w", frame, err)
		}
		if used := s.t.Bytes(); bytesMax > 0 && used > bytesMax {
			return fmt.Errorf("frame %d: %d bytes of tree so far, the budget is %d: %w", frame, used, bytesMax, ErrTooLarge)
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("%w: bytes behind the end (%v)", ErrSnapshot, err) //nolint:errorlint // nil when there are bytes
	}
	return nil
}

func (s *restorer) frame(r io.Reader) error {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("%w: frame cut short: %w", ErrSnapshot, err)
	}
	length := binary.LittleEndian.Uint32(head[:])
	if length > FrameMax {
		return fmt.Errorf("%w: frame of %d bytes, at most %d", ErrSnapshot, length, FrameMax)
	}
	s.buf.Reset()
	if _, err := io.CopyN(&s.buf, r, int64(length)); err != nil {
		return fmt.Errorf("%w: frame of %d bytes cut short: %w", ErrSnapshot, length, err)
	}
	if sum := crc32.Checksum(s.buf.Bytes(), castagnoli); sum != binary.LittleEndian.Uint32(head[4:]) {
		return fmt.Errorf("%w: checksum %08x, written %08x", ErrSnapshot, sum, binary.LittleEndian.Uint32(head[4:]))
	}
	return s.payload(s.buf.Bytes())
}

// payload takes the records of one frame.
func (s *restorer) payload(b []byte) error {
	d := decoder{b: b}
	for d.err == nil && d.off < len(d.b) {
		s.record(&d)
	}
	if d.err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, d.err)
	}
	if s.backup != nil {
		s.backup.sum = hashString(s.backup.sum, viewString(b))
	}
	return nil
}

func (s *restorer) record(d *decoder) {
	kind := d.byte()
	if s.ended || s.headed == (kind == recordHeader || kind == recordBackup) {
		d.fail("record %d out of order", kind)
		return
	}
	if kind != recordACLs && kind != recordNode && (s.backup != nil) != (kind == recordBackup || kind == recordBackupEnd) {
		d.fail("record %d does not belong here", kind)
		return
	}
	switch kind {
	case recordBackup:
		s.headed = true
		s.t.zxid, s.t.timeMs = d.varint(), d.varint()
	case recordBackupEnd:
		s.backupEnd(d)
	case recordStaging:
		s.t.staging = readStaging(d)
	case recordStagedACLs:
		if build := s.staged(d); build != nil {
			build.list(d)
		}
	case recordStagedNode:
		if build := s.staged(d); build != nil {
			build.node(d)
		}
	case recordHeader:
		s.headed = true
		s.t.zxid, s.t.timeMs, s.t.rules = d.varint(), d.varint(), d.uint32()
		if secret := d.data(); secret != nil {
			s.t.secret = slices.Clone(secret)
		}
		s.nodes = d.uvarint()
		s.t.restored = d.uvarint()
		s.digest = d.uint64()
	case recordACLs:
		s.list(d)
	case recordSession:
		s.session(d)
	case recordNode:
		s.node(d)
	case recordEnd:
		s.ended = true
	default:
		d.fail("record %d is unknown", kind)
	}
}

// list reads a list of ACLs.
func (s *restorer) list(d *decoder) {
	id, list := d.uvarint(), d.acls()
	if _, twice := s.acls[id]; twice || len(list) == 0 {
		d.fail("ACLs %d: twice or empty", id)
		return
	}
	s.acls[id] = s.t.acls.intern(list)
}

// staged is where the records of a staged backup go.
func (s *restorer) staged(d *decoder) *restorer {
	if s.t.staging == nil {
		d.fail("a staged record without a staging")
		return nil
	}
	return s.t.staging.build
}

func (s *restorer) session(d *decoder) {
	v := &session{id: d.varint(), timeoutMs: d.int32(), box: d.uvarint(), incarnation: d.uvarint()}
	_, boxTwice := s.t.boxes[v.box]
	if d.err != nil || s.t.sessions[v.id] != nil || v.incarnation != 0 && boxTwice {
		d.fail("session %#x of box %d twice", v.id, v.box)
		return
	}
	s.t.openSession(v)
}

// node reads a node into the next id. Its parent is, for now, the old id.
func (s *restorer) node(d *decoder) {
	t := s.t
	old, parent := d.uint32(), d.uint32()
	n := node{parent: nodeID(parent), kind: nodeKind(d.byte()), hasData: d.byte() != 0}
	n.czxid, n.mzxid, n.pzxid, n.ctime, n.mtime, n.owner = d.varint(), d.varint(), d.varint(), d.varint(), d.varint(), d.varint()
	n.version, n.cversion, n.aversion = d.int32(), d.int32(), d.int32()
	acl := d.uvarint()
	name, data := d.take(d.uvarint()), d.take(d.uvarint())
	if d.err != nil {
		return
	}
	id, known := s.acls[acl]
	n.acl, n.nameLen = id, uint32(len(name))
	isRoot := len(s.olds) == 0
	switch {
	case isRoot && (old != uint32(rootID) || parent != 0 || len(name) != 0 || n.kind != kindPersistent),
		!isRoot && (old <= uint32(s.olds[len(s.olds)-1]) || len(name) == 0):
		d.fail("node %d out of order", old)
	case bytes.IndexByte(name, '/') >= 0:
		d.fail("node %d has a slash in its name", old)
	case !known:
		d.fail("node %d has unknown ACLs %d", old, acl)
	case n.kind == kindFree || n.kind > kindTTL:
		d.fail("node %d is of kind %d", old, n.kind)
	case n.kind == kindEphemeral && t.sessions[n.owner] == nil:
		d.fail("node %d is of session %#x, which is not open", old, n.owner)
	case !n.hasData && len(data) != 0:
		d.fail("node %d has data and has none", old)
	case n.kind == kindTTL && (n.owner <= 0 || n.owner > ttlMax):
		d.fail("node %d has a TTL of %d ms", old, n.owner)
	case uint64(len(s.olds)) >= math.MaxUint32-2:
		d.fail("too many nodes")
	}
	if d.err != nil {
		return
	}
	s.olds = append(s.olds, nodeID(old))
	at := t.alloc()
	*t.node(at) = n
	t.setBlob(at, makeBlob(string(name), data))
	t.acls.hold(n.acl)
	t.own(at)
	if s.backup != nil && !s.settle(at) {
		d.fail("node %d has a twin", old)
	}
}

// settle links a node of a backup that has just come, unless its parent is still to come, and enters it into sums and
// counters if its path is known. False says that its parent has a child of that name already.
func (s *restorer) settle(id nodeID) bool {
	t := s.t
	at := place{hash: sumRoot, size: 1}
	if id != rootID {
		name := t.name(id)
		i, found := slices.BinarySearch(s.olds[:len(s.olds)-1], t.node(id).parent)
		if !found {
			s.loose = append(s.loose, id)
			s.places = append(s.places, place{})
			return true
		}
		parent := nodeID(i) + rootID
		if t.index.find(t, parent, name) != 0 {
			return false
		}
		t.link(parent, id)
		t.index.add(parent, name, id)
		up := s.places[i]
		if up.size == 0 {
			s.places = append(s.places, place{})
			return true
		}
		at = place{pathHash(up.hash, name), up.size + 1 + uint32(len(name))}
		if parent == rootID {
			at.size--
		}
	}
	s.places = append(s.places, at)
	t.sum(id, at.hash)
	t.count(id, 1, int(at.size))
	return true
}

// bytes is what the restorer itself takes.
func (s *restorer) bytes() int64 {
	return int64(20*len(s.olds) + 4*len(s.loose) + 16*len(s.acls))
}

// finish links the nodes, recomputes what follows from them, and checks that it is one tree.
func (s *restorer) finish() error {
	t := s.t
	if uint64(len(s.olds)) != s.nodes || len(s.olds) == 0 {
		return fmt.Errorf("%w: %d nodes, the header says %d", ErrSnapshot, len(s.olds), s.nodes)
	}
	if s.backup != nil && len(s.loose) == 0 {
		if uint64(t.live) != s.nodes {
			return fmt.Errorf("%w: %d of %d nodes hang on the root", ErrSnapshot, t.live, s.nodes)
		}
		t.acls.sweep()
		s.findQuotas()
		return nil
	}
	if err := s.linkRest(); err != nil {
		return err
	}
	if err := s.measure(); err != nil {
		return err
	}
	t.acls.sweep()
	s.findQuotas()
	return nil
}

// linkRest links what is not linked yet.
func (s *restorer) linkRest() error {
	t := s.t
	for id := rootID + 1; id < t.high; id++ {
		if t.node(id).prev != 0 {
			continue // a linked node has one before it, if only itself
		}
		i, found := slices.BinarySearch(s.olds, t.node(id).parent)
		parent := nodeID(i) + rootID
		name := t.name(id)
		if !found || t.index.find(t, parent, name) != 0 {
			return fmt.Errorf("%w: node %q has no parent or a twin", ErrSnapshot, name)
		}
		t.link(parent, id)
		t.index.add(parent, name, id)
	}
	return nil
}

// measure walks the tree from the root and counts every node with its path. Nodes that hang in a ring are not met, and
// are missed in the end.
func (s *restorer) measure() error {
	t := s.t
	type step struct {
		id   nodeID
		hash uint64
		size int // of the path
	}
	// What was counted of a backup so far is counted again, with what hung on loose nodes.
	t.totals = totals{high: t.high, free: t.free, freeCount: t.freeCount, blobBytes: t.blobBytes, sessionSum: t.sessionSum}
	way := []step{{rootID, sumRoot, 0}} // from the root to the present node
	t.walk(rootID, func(id nodeID) bool {
		if id == rootID {
			t.sum(id, sumRoot)
			t.count(id, 1, 1)
			return true
		}
		for way[len(way)-1].id != t.node(id).parent {
			way = way[:len(way)-1]
		}
		up := way[len(way)-1]
		name := t.name(id)
		at := step{id, pathHash(up.hash, name), up.size + 1 + len(name)}
		t.sum(id, at.hash)
		t.count(id, 1, at.size)
		way = append(way, at)
		return true
	})
	if uint64(t.live) != s.nodes {
		return fmt.Errorf("%w: %d of %d nodes hang on the root", ErrSnapshot, t.live, s.nodes)
	}
	return nil
}

// findQuotas fills the trie from the limits nodes.
func (s *restorer) findQuotas() {
	t := s.t
	top := t.find(pathQuota)
	if top == 0 {
		return
	}
	t.walk(top, func(id nodeID) bool {
		if t.name(id) == quotaLimits && id != top {
			path := t.path(id)
			if target := quotaTarget(path[:strings.LastIndexByte(path, '/')]); target != "" {
				t.quotas.add(target)
			}
		}
		return true
	})
}
