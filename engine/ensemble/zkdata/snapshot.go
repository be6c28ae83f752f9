package zkdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"cairn/engine/ensemble/jute"
)

// A snapshot is (SerializeUtils.serializeSnapshot, DataTree.serialize, all numbers big endian):
//
//	"ZKSN", version int, dbid long
//	sessions  count int, {id long, timeout int}
//	ACLs      count int, {number long, list}
//	nodes     {path ustring, data buffer, ACLs long, StatPersisted}, parents before children, the root's path is "";
//	          the path "/" ends them
//	seal      Adler32 of all that was before as long, ustring "/"
//	3.6 on    zxid long, version int, digest long; seal
//	3.9 on    last zxid long; seal
//
// The number -1 of ACLs is the open list. A seal is over everything before it, so that the last one vouches for all.

const (
	snapshotMagic   = "ZKSN"
	snapshotVersion = 2
	openACLs        = -1
	sealBytes       = 8 + 4 + 1
	digestBytes     = 8 + 4 + 8
	tailBytesMax    = 256
)

// SnapshotMagic is what a snapshot begins with.
const SnapshotMagic = snapshotMagic

// ReadSnapshot reads a snapshot, to the end of r. The zxid is that which is written at its end by 3.9, or else the highest
// that a node has; a file's name knows better. What does not fit bytesMax of memory, roughly, is ErrTooLarge; 0 is no bound.
func ReadSnapshot(r io.Reader, bytesMax int64) (*Tree, error) {
	if bytesMax == 0 {
		bytesMax = math.MaxInt64
	}
	s := newSource(r, bytesMax)
	t := &Tree{nodes: make(map[string]*Node), owned: make(map[int64]map[string]struct{})}
	if magic := s.fixed(4); s.err == nil && string(magic) != snapshotMagic {
		s.fail("it begins with %q", magic)
	}
	s.int32() // ZooKeeper looks neither at the version nor at the database's id
	s.int64()
	for n := s.int32(); n > 0 && s.err == nil; n-- {
		s.int64()
		s.int32()
		t.Sessions++
	}
	t.readNodes(s, readACLs(s))
	t.readEnd(s)
	if s.err != nil {
		return nil, fmt.Errorf("snapshot: %w", s.err)
	}
	t.left = s.left
	return t, nil
}

func readACLs(s *source) map[int64][]jute.ACL {
	lists := map[int64][]jute.ACL{openACLs: jute.OpenACL()}
	for n := s.int32(); n > 0 && s.err == nil; n-- {
		number := s.int64()
		lists[number] = s.acls()
		s.spend(aclBytes)
	}
	return lists
}

func (t *Tree) readNodes(s *source, lists map[int64][]jute.ACL) {
	for s.err == nil {
		path := s.string()
		if s.err != nil || path == "/" {
			break
		}
		n := &Node{Data: s.buffer()}
		acl, known := lists[s.int64()]
		n.ACL = acl
		n.Czxid, n.Mzxid, n.Ctime, n.Mtime = s.int64(), s.int64(), s.int64(), s.int64()
		n.Version, n.Cversion, n.Aversion = s.int32(), s.int32(), s.int32()
		n.Owner, n.Pzxid = s.int64(), s.int64()
		s.spend(nodeBytes)
		if path == "" {
			path = "/"
		}
		switch {
		case s.err != nil:
		case !known:
			s.fail("%q has ACLs that are not there", path)
		case t.nodes[path] != nil:
			s.fail("%q comes twice", path)
		case path != "/" && (!wholePath(path) || t.nodes[parentOf(path)] == nil):
			s.fail("%q has no parent", path)
		}
		t.put(path, n)
		t.Zxid = max(t.Zxid, n.Czxid, n.Mzxid, n.Pzxid)
	}
	if s.err == nil && t.nodes["/"] == nil {
		s.fail("it has no root")
	}
}

// readEnd reads the seals and what lies between them.
func (t *Tree) readEnd(s *source) {
	if s.err != nil {
		return
	}
	tail, err := io.ReadAll(io.LimitReader(s.r, tailBytesMax+1))
	if err != nil {
		s.cut(err)
		return
	}
	body := len(tail) - sealBytes
	if body < 0 || len(tail) > tailBytesMax || string(tail[body+8:]) != "\x00\x00\x00\x01/" {
		s.fail("no seal at the end: it is cut short, or more was written behind it")
		return
	}
	_, _ = s.sum.Write(tail[:body]) // never fails
	if written := binary.BigEndian.Uint64(tail[body:]); written != uint64(s.sum.Sum32()) {
		s.fail("the checksum is %08x, written %08x", s.sum.Sum32(), written)
		return
	}
	if zxid := lastZxid(tail); zxid > 0 {
		t.Zxid = zxid
	}
}

// lastZxid is what 3.9 writes last, or 0.
func lastZxid(tail []byte) int64 {
	switch len(tail) {
	case sealBytes + 8 + sealBytes:
		return int64(binary.BigEndian.Uint64(tail[sealBytes:]))
	case sealBytes + digestBytes + sealBytes + 8 + sealBytes:
		return int64(binary.BigEndian.Uint64(tail[sealBytes+digestBytes+sealBytes:]))
	}
	return 0
}

// WriteSnapshot writes a snapshot that a ZooKeeper 3.8 or 3.9 starts from when it lies in its directory under the name
// snapshot.<zxid in hex>. nodes calls visit for every node, parents first, the root (path "/") before all, and stops where
// that returns false; it is called twice. No session is written.
func WriteSnapshot(w io.Writer, zxid int64, nodes func(visit func(path string, n *Node) bool)) error {
	d := &drain{w: w, sum: newSource(nil, 0).sum}
	d.b = append(d.b, snapshotMagic...)
	d.b = jute.AppendInt64(jute.AppendInt32(d.b, snapshotVersion), -1) // FileTxnSnapLog gives its files this id
	d.b = jute.AppendInt32(d.b, 0)
	numbers, lists := numberACLs(nodes)
	d.b = jute.AppendInt32(d.b, int32(len(lists)))
	for i, list := range lists {
		d.b = jute.AppendACLs(jute.AppendInt64(d.b, int64(i+1)), list)
		d.flush(64 << 10)
	}
	first := true
	nodes(func(path string, n *Node) bool {
		if first != (path == "/") {
			d.err = errors.New("the root comes first and once")
		}
		first = false
		d.b = jute.AppendString(d.b, strings.TrimSuffix(path, "/"))
		d.b = jute.AppendBuffer(d.b, n.Data)
		d.b = jute.AppendInt64(d.b, numbers[aclKey(n.ACL)])
		for _, v := range [...]int64{n.Czxid, n.Mzxid, n.Ctime, n.Mtime} {
			d.b = jute.AppendInt64(d.b, v)
		}
		for _, v := range [...]int32{n.Version, n.Cversion, n.Aversion} {
			d.b = jute.AppendInt32(d.b, v)
		}
		d.b = jute.AppendInt64(jute.AppendInt64(d.b, n.Owner), n.Pzxid)
		d.flush(64 << 10)
		return d.err == nil
	})
	d.b = jute.AppendString(d.b, "/")
	d.seal()
	d.b = jute.AppendInt64(jute.AppendInt32(jute.AppendInt64(d.b, 0), 2), 0) // no digest: ZooKeeper compares none then
	d.seal()
	d.b = jute.AppendInt64(d.b, zxid)
	d.seal()
	if d.err != nil {
		return fmt.Errorf("write a ZooKeeper snapshot: %w", d.err)
	}
	return nil
}

// aclKey tells lists apart.
func aclKey(list []jute.ACL) string { return string(jute.AppendACLs(nil, list)) }

// numberACLs gives each list that is not the open one a number.
func numberACLs(nodes func(visit func(path string, n *Node) bool)) (map[string]int64, [][]jute.ACL) {
	numbers := map[string]int64{aclKey(jute.OpenACL()): openACLs}
	var lists [][]jute.ACL
	nodes(func(_ string, n *Node) bool {
		key := aclKey(n.ACL)
		if _, known := numbers[key]; !known {
			lists = append(lists, n.ACL)
			numbers[key] = int64(len(lists))
		}
		return true
	})
	return numbers, lists
}

// drain writes what is gathered in b, with its checksum.
type drain struct {
	w   io.Writer
	b   []byte
	sum rollingSum
	err error
}

// flush writes when at least so many bytes are gathered.
func (d *drain) flush(least int) {
	if len(d.b) < least || d.err != nil {
		return
	}
	_, _ = d.sum.Write(d.b) // never fails
	_, d.err = d.w.Write(d.b)
	d.b = d.b[:0]
}

// seal is SnapStream.sealStream.
func (d *drain) seal() {
	d.flush(0)
	d.b = jute.AppendString(jute.AppendInt64(d.b, int64(d.sum.Sum32())), "/")
	d.flush(0)
}
