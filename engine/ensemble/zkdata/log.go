package zkdata

import (
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math"
	"slices"

	"cairn/engine/ensemble/jute"
)

// A transaction log is (FileTxnLog):
//
//	"ZKLG", version int, dbid long
//	{Adler32 of the transaction as long, transaction as buffer, 'B'}
//	zeros, which were preallocated
//
// A transaction is a header (session long, cxid int, zxid long, time long, type int), a record by its type, and since 3.6
// a digest of the tree, which is not looked at. A length of 0, a last byte that is not 'B', and the end of the file at any
// place end the log, as they do in ZooKeeper: so ends a log whose writer died. A checksum that does not match is damage,
// and a ZooKeeper does not start with it.

const logMagic = "ZKLG"

// LogEnd says how a log ended.
type LogEnd struct {
	// Replayed transactions, and the zxid of the last one in the file; 0 when there was none.
	Replayed int
	Last     int64
	// Torn: the file ends in the midst of a transaction, or of its own head.
	Torn bool
}

type header struct {
	session    int64
	zxid, time int64
	kind       jute.OpCode
}

type createTxn struct {
	path           string
	data           []byte
	acl            []jute.ACL
	ephemeral      bool
	parentCversion int32
	ttl            int64
}

// Replay applies the transactions of a log from the zxid from on. The error is ErrDamaged, ErrTooLarge or the reader's own;
// the tree is of no use after one.
func (t *Tree) Replay(r io.Reader, from int64) (LogEnd, error) {
	s := newSource(r, t.left)
	var end LogEnd
	magic := string(s.fixed(4))
	s.int32()
	s.int64()
	if errors.Is(s.err, ErrDamaged) { // it is cut short
		return LogEnd{Torn: true}, nil
	}
	if s.err != nil {
		return end, fmt.Errorf("transaction log: %w", s.err)
	}
	if magic != logMagic {
		return end, fmt.Errorf("transaction log: %w: it begins with %q", ErrDamaged, magic)
	}
	for {
		at := s.at
		b, more := s.transaction(&end)
		if !more {
			return end, s.other()
		}
		h, err := t.apply(b, from)
		if err != nil {
			return end, fmt.Errorf("transaction log: at byte %d: %w", at, err)
		}
		end.Last = h.zxid
		if h.zxid >= from {
			end.Replayed++
		}
		if t.left < 0 {
			return end, fmt.Errorf("transaction log: %w at byte %d", ErrTooLarge, at)
		}
	}
}

// other is the source's error unless that is the end of the file.
func (s *source) other() error {
	if s.err == nil || errors.Is(s.err, errEnd) {
		return nil
	}
	return fmt.Errorf("transaction log: %w", s.err)
}

var errEnd = errors.New("the end of the log")

// transaction reads one, or tells that there are no more.
func (s *source) transaction(end *LogEnd) ([]byte, bool) {
	if _, err := s.r.Peek(1); err == io.EOF {
		return nil, false
	}
	sum := s.int64()
	length := s.int32()
	if errors.Is(s.err, ErrDamaged) { // it is cut short
		end.Torn, s.err = true, errEnd
	}
	if s.err != nil {
		return nil, false
	}
	if length == 0 {
		return nil, false // what was preallocated
	}
	if length < 0 || length > bufferBytesMax {
		s.fail("a transaction of %d bytes", length)
		return nil, false
	}
	s.buf.Reset()
	n, err := io.CopyN(&s.buf, s.r, int64(length)+1)
	s.at += n
	b := s.buf.Bytes()
	switch {
	case err == io.EOF, err == nil && b[length] != 'B':
		end.Torn, s.err = true, errEnd
		return nil, false
	case err != nil:
		s.err = fmt.Errorf("read byte %d: %w", s.at, err)
		return nil, false
	}
	b = b[:length]
	if got := adler32.Checksum(b); uint64(sum) != uint64(got) {
		s.fail("the checksum of a transaction is %08x, written %08x,", got, uint64(sum))
		return nil, false
	}
	return b, true
}

// apply decodes and applies one transaction. Older ones than from are decoded no further than their header.
func (t *Tree) apply(b []byte, from int64) (header, error) {
	r := jute.NewReader(b)
	h := header{session: r.Int64()}
	r.Int32() // cxid
	h.zxid, h.time, h.kind = r.Int64(), r.Int64(), jute.OpCode(r.Int32())
	if r.Err() == nil && h.zxid >= from {
		t.Zxid = max(t.Zxid, h.zxid)
		t.process(r, &h)
	}
	if err := r.Err(); err != nil {
		return h, fmt.Errorf("%w: transaction %#x: %w", ErrDamaged, h.zxid, err)
	}
	return h, nil
}

// process is DataTree.processTxn, and what FileTxnSnapLog does beside it.
func (t *Tree) process(r *jute.Reader, h *header) {
	switch h.kind {
	case jute.OpCreateSession:
		r.Int32()
	case jute.OpCloseSession:
		t.closeSession(h.session, closed(r), h.zxid)
	case jute.OpError:
		r.Int32()
	case jute.OpMulti:
		t.multi(r, h)
	case jute.OpReconfig, jute.OpCreate, jute.OpCreate2, jute.OpCreateTTL, jute.OpCreateContainer, jute.OpDelete,
		jute.OpDeleteContainer, jute.OpSetData, jute.OpSetACL:
		t.single(r, h)
	default:
		r.Fail("a transaction of type %d", h.kind)
	}
}

// closed reads what a closed session owned. A ZooKeeper before 3.6, or one that was told so, names nothing; what stands
// there instead is at most a digest, which is no list of paths.
func closed(r *jute.Reader) []string {
	list := jute.NewReader(r.Rest())
	named := list.Strings()
	if list.Err() != nil || slices.ContainsFunc(named, func(path string) bool { return !wholePath(path) }) {
		return nil
	}
	return named
}

// single applies one change.
func (t *Tree) single(r *jute.Reader, h *header) {
	switch h.kind {
	case jute.OpCreate, jute.OpCreate2, jute.OpCreateTTL, jute.OpCreateContainer:
		c := readCreate(r, h.kind)
		if r.Err() == nil && validPath(r, c.path) {
			t.left -= int64(nodeBytes + 2*len(c.path) + len(c.data) + aclBytes*len(c.acl))
			t.applyCreate(&c, h)
		}
	case jute.OpDelete, jute.OpDeleteContainer:
		if path := r.String(); r.Err() == nil && validPath(r, path) {
			t.delete(path, h.zxid)
		}
	case jute.OpSetData, jute.OpReconfig:
		path, data, version := r.String(), clone(r.Buffer()), r.Int32()
		if n := t.nodes[path]; r.Err() == nil && n != nil {
			t.left -= int64(len(data) - len(n.Data))
			n.Data, n.Version, n.Mzxid, n.Mtime = data, version, h.zxid, h.time
		}
	case jute.OpSetACL:
		path, acl, version := r.String(), r.ACLs(), r.Int32()
		if n := t.nodes[path]; r.Err() == nil && n != nil {
			t.left -= int64(aclBytes * (len(acl) - len(n.ACL)))
			n.ACL, n.Aversion = acl, version
		}
	case jute.OpCheck:
		_, _ = r.String(), r.Int32()
	default:
		r.Fail("an operation of type %d", h.kind)
	}
}

// validPath fails the reader for a path that no node can have.
func validPath(r *jute.Reader, path string) bool {
	if !wholePath(path) {
		r.Fail("the path %.64q", path)
		return false
	}
	return true
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func readCreate(r *jute.Reader, kind jute.OpCode) createTxn {
	c := createTxn{path: r.String(), data: clone(r.Buffer()), acl: r.ACLs()}
	switch kind {
	case jute.OpCreateTTL:
		c.parentCversion, c.ttl = r.Int32(), r.Int64()
	case jute.OpCreateContainer:
		c.parentCversion = r.Int32()
	default:
		c.ephemeral = r.Bool()
		c.parentCversion = -1
		if r.Remaining() >= 4 { // ZooKeeper 3.3 wrote none
			c.parentCversion = r.Int32()
		}
	}
	return c
}

// The owners that mark a container and a TTL (EphemeralType).
const (
	ownerContainer = math.MinInt64
	ownerTTL       = -1 << 56
)

func (t *Tree) applyCreate(c *createTxn, h *header) {
	owner := int64(0)
	switch {
	case h.kind == jute.OpCreateTTL:
		owner = ownerTTL | c.ttl
	case h.kind == jute.OpCreateContainer:
		owner = ownerContainer
	case c.ephemeral:
		owner = h.session
	}
	// A plain create that finds its node counts for the parent all the same: the node may have been of a session that is
	// closed and was made again before the parent was written (processTxn says more).
	if exists := t.create(c, owner, h); exists && h.kind == jute.OpCreate {
		if parent := t.nodes[parentOf(c.path)]; parent != nil {
			t.moveParent(parent, c.parentCversion, h.zxid)
		}
	}
}

// multi applies the operations of a multi, none of them if one is an error.
func (t *Tree) multi(r *jute.Reader, h *header) {
	n := r.Count(8)
	type op struct {
		kind jute.OpCode
		data []byte
	}
	ops := make([]op, 0, max(n, 0))
	failed := false
	for range max(n, 0) {
		o := op{jute.OpCode(r.Int32()), r.Buffer()}
		failed = failed || o.kind == jute.OpError
		ops = append(ops, o)
	}
	if r.Err() != nil || failed {
		return
	}
	for _, o := range ops {
		sub, record := *h, jute.NewReader(o.data)
		sub.kind = o.kind
		t.single(record, &sub)
		if err := record.Err(); err != nil {
			r.Fail("an operation of a multi: %v", err)
			return
		}
	}
}
