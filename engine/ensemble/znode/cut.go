package znode

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"cairn/engine/ensemble/jute"
)

// A snapshot is a stream:
//
//	magic    8 bytes "cairnzt1"
//	frames   {length uint32 LE, crc32c of the payload uint32 LE, payload}
//
// The payloads hold records, one after the other; a record does not cross a frame:
//
//	1 header   zxid varint, timeMs varint, rules uvarint, secret data, nodes uvarint, restored uvarint, digest 8 bytes LE
//	2 ACLs     id uvarint, list
//	3 session  id varint, timeoutMs varint, box uvarint, incarnation uvarint
//	4 node     id uvarint, parent uvarint, kind 1 byte, hasData 1 byte, czxid, mzxid, pzxid, ctime, mtime, owner, version,
//	           cversion, aversion varint, acl uvarint, name text, data text
//	5 end
//	8 staging  id 8 bytes LE, next uvarint, touchedMs varint, sum 8 bytes LE, zxid, timeMs varint, ended 1 byte,
//	           nodes, left uvarint, recount 1 byte
//	9, 10      ACLs and nodes of the backup that is staged, as 2 and 4
//
// (numbers, texts, data and lists as in an entry). The header comes first, then ACLs, sessions, and nodes in the order
// of their ids, the root first; a parent may come after its child. A backup that is being staged (staging.go) follows:
// what it is, its ACLs, its nodes. Links to siblings, the quotas' trie and the counters follow from the nodes. The reader
// recomputes the digest, which the header tells. Records 6 and 7 are a backup's (backup.go).

const snapshotMagic = "cairnzt1"

const (
	recordHeader  = 1
	recordACLs    = 2
	recordSession = 3
	recordNode    = 4
	recordEnd     = 5

	recordStaging    = 8
	recordStagedACLs = 9
	recordStagedNode = 10
)

// ErrBusy is Cut's answer while another cut is open.
var ErrBusy = errors.New("a snapshot is being cut")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Cut is the tree as it was at one applied entry, while the tree goes on. It is read by one goroutine, with the tree's
// read lock held during each call. Until it is read to its end or closed, what changes in the tree is kept twice.
type Cut struct {
	t        *Tree
	header   []byte
	sessions []session
	stage    int
	next     nodeID // nodes below are written
	limit    nodeID // nodes from here on did not exist
	acl      int
	aclLimit int
	session  int
	saved    map[nodeID]preimage

	zxid   int64
	digest uint64

	staged *stagedCut // the staged backup that belongs to the snapshot; nil when there is none
	backup *backupCut // nil: a snapshot
}

// Cut marks the present state. The caller holds the write lock, or knows that nothing is applied meanwhile; it takes
// time by the number of sessions, not of nodes.
func (t *Tree) Cut() (*Cut, error) {
	if t.cut != nil {
		return nil, ErrBusy
	}
	c := &Cut{
		t: t, next: rootID, limit: t.high, aclLimit: len(t.acls.entries), saved: make(map[nodeID]preimage),
		zxid: t.zxid, digest: t.Digest(),
	}
	c.sessions = make([]session, 0, len(t.sessions))
	for _, id := range sortedKeys(t.sessions) {
		s := *t.sessions[id]
		s.ephemerals = nil
		c.sessions = append(c.sessions, s)
	}
	h := append(c.header, recordHeader)
	h = binary.AppendVarint(h, t.zxid)
	h = binary.AppendVarint(h, t.timeMs)
	h = binary.AppendUvarint(h, uint64(t.rules))
	h = appendData(h, t.secret)
	h = binary.AppendUvarint(h, uint64(t.live))
	h = binary.AppendUvarint(h, t.restored)
	c.header = binary.LittleEndian.AppendUint64(h, c.digest)
	c.staged = cutStaging(t.staging)
	t.cut = c
	return c, nil
}

// Zxid of the last entry that the cut holds.
func (c *Cut) Zxid() int64 { return c.zxid }

// Digest of the tree that the cut holds.
func (c *Cut) Digest() uint64 { return c.digest }

// Close ends a cut that is not read to its end. It may be called again, and under the same lock as Next.
func (c *Cut) Close() {
	if c.t.cut == c {
		c.t.cut = nil
	}
	c.saved = nil
	c.stage = stageDone
}

// save keeps what a node is before its first change after the cut.
func (c *Cut) save(t *Tree, id nodeID) {
	if id < c.next || id >= c.limit {
		return
	}
	if _, saved := c.saved[id]; !saved {
		c.saved[id] = c.image(t, id)
	}
}

// CopyTo writes what is left of the cut in chunks of about that many bytes. Nothing may change the tree meanwhile.
func (c *Cut) CopyTo(w io.Writer, chunkBytes int) error {
	buffer := make([]byte, 0, chunkBytes+64<<10)
	for more := true; more; {
		buffer, more = c.Next(buffer[:0], chunkBytes)
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// image is what the cut holds of a node that has not changed since: for a backup, nothing of a node that it leaves out.
// The node's ancestors are still those that it had at the cut, since none of them goes before it.
func (c *Cut) image(t *Tree, id nodeID) preimage {
	if c.backup != nil && c.backup.leavesOut(t, id) {
		return preimage{}
	}
	return preimage{node: *t.node(id), blob: t.blob(id)}
}

const (
	stageHeader = iota
	stageACLs
	stageSessions
	stageNodes
	stageStaged
	stageEnd
	stageDone
)

// scanMax bounds the ids that one call of Next looks at, free ones included.
const scanMax = 16 << 10

// Next appends the next part of the stream to dst, about size bytes of it, or one record if that is larger. more is
// false when the stream is complete, which closes the cut.
func (c *Cut) Next(dst []byte, size int) (out []byte, more bool) {
	if c.stage == stageDone {
		return dst, false
	}
	if c.stage == stageHeader {
		dst = append(dst, c.magic()...)
	}
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	for scanned := 0; len(dst)-start < size+frameHeader && scanned < scanMax && c.stage != stageDone; scanned++ {
		if c.backup != nil && c.stage == stageEnd && len(dst) > start+frameHeader {
			break // the end is a frame of its own, since it vouches for those before it
		}
		dst = c.record(dst)
	}
	payload := dst[start+frameHeader:]
	if c.backup != nil {
		c.backup.sum = hashString(c.backup.sum, viewString(payload))
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(payload, castagnoli))
	if c.stage == stageDone {
		c.Close()
		return dst, false
	}
	return dst, true
}

const frameHeader = 8

// record appends at most one record and goes on.
func (c *Cut) record(dst []byte) []byte {
	switch c.stage {
	case stageHeader:
		dst = append(dst, c.header...)
		c.stage++
	case stageACLs:
		if c.acl == c.aclLimit {
			c.stage++
			break
		}
		// Entries of this id are not freed while the cut is open; one that was free at the cut, or had no node then, is
		// written in vain at worst.
		if e := &c.t.acls.entries[c.acl]; e.list != nil {
			dst = binary.AppendUvarint(append(dst, recordACLs), uint64(c.acl))
			dst = appendACLs(dst, e.list)
		}
		c.acl++
	case stageSessions:
		if c.session == len(c.sessions) {
			c.stage++
			c.sessions = nil
			break
		}
		s := &c.sessions[c.session]
		dst = binary.AppendVarint(append(dst, recordSession), s.id)
		dst = binary.AppendVarint(dst, int64(s.timeoutMs))
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, s.box), s.incarnation)
		c.session++
	case stageNodes:
		if c.next == c.limit {
			c.stage++
			break
		}
		dst = c.nodeRecord(dst, c.next)
		delete(c.saved, c.next)
		c.next++
	case stageStaged:
		var more bool
		if dst, more = c.staged.record(dst); !more {
			c.stage++
			c.staged = nil
		}
	case stageEnd:
		if c.backup != nil {
			dst = c.backup.end(dst)
		} else {
			dst = append(dst, recordEnd)
		}
		c.stage++
	}
	return dst
}

func (c *Cut) magic() string {
	if c.backup != nil {
		return backupMagic
	}
	return snapshotMagic
}

func (c *Cut) nodeRecord(dst []byte, id nodeID) []byte {
	pre, saved := c.saved[id]
	if !saved {
		pre = c.image(c.t, id)
	}
	if pre.node.kind == kindFree {
		return dst
	}
	if c.backup != nil {
		dst = c.backup.list(dst, c.t, pre.node.acl)
		c.backup.nodes++
	}
	return appendNode(append(dst, recordNode), id, pre, uint64(pre.node.acl))
}

// appendNode is the body of a node's record; acl is the number that its list has in the stream.
func appendNode(dst []byte, id nodeID, pre preimage, acl uint64) []byte {
	n := &pre.node
	dst = binary.AppendUvarint(dst, uint64(id))
	dst = binary.AppendUvarint(dst, uint64(n.parent))
	dst = jute.AppendBool(append(dst, byte(n.kind)), n.hasData)
	for _, v := range [...]int64{
		n.czxid, n.mzxid, n.pzxid, n.ctime, n.mtime, n.owner, int64(n.version), int64(n.cversion), int64(n.aversion),
	} {
		dst = binary.AppendVarint(dst, v)
	}
	dst = binary.AppendUvarint(dst, acl)
	return appendText(appendText(dst, pre.blob[:n.nameLen]), pre.blob[n.nameLen:])
}
