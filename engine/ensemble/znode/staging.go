package znode

import (
	"encoding/binary"
	"errors"
	"slices"

	"cairn/engine/ensemble/jute"
)

// A backup comes into a running ensemble as entries: its frames, one by one, are staged beside the tree (KindStage), and
// one entry puts the staged nodes into the place of the users' (KindSwap). Every box stages the same at the same entry; a
// box that restarts or is brought a snapshot finds the staging in it. Until the swap nobody sees anything of it, and a
// staging that nobody goes on with is dropped by the first entry that is later than stagingIdleMs, by the leader's time.
//
// A staged backup counts against the tree's budget by itself: the tree and what is to take its place must each fit it.

// swapZxids is what a swap adds to the higher zxid of tree and backup: clients of the lost tree may have seen zxids that the
// backup does not know, and none of them may be given again.
const swapZxids = 1 << 32

// stagingIdleMs is how long a staging stays without another part.
const stagingIdleMs = 10 * 60 * 1000

// stageGrowth is about the most that a byte of a frame becomes in memory: the least record of a node has 18 bytes and
// becomes nodeBytes, and a short list of ACLs some ten times its length.
const stageGrowth = 12

type staging struct {
	id        uint64 // who brings it, drawn at random
	next      uint64 // part that comes next
	touchedMs int64
	build     *restorer
}

// StageData is the Data of KindStage: whose staging it is, which part, and the payload of the backup's frame. KindSwap and
// KindUnstage have the id alone.
func StageData(id, part uint64, payload []byte) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 18+len(payload)), id)
	return append(binary.AppendUvarint(b, part), payload...)
}

// StageID is the Data of KindSwap and KindUnstage.
func StageID(id uint64) []byte { return binary.LittleEndian.AppendUint64(nil, id) }

// Staged tells whose backup is staged, and how many parts of it; 0 and 0 when none is.
func (t *Tree) Staged() (id, parts uint64) {
	if t.staging == nil {
		return 0, 0
	}
	return t.staging.id, t.staging.next
}

// Restored is the id of the backup that was swapped in last; 0 when none was.
func (t *Tree) Restored() uint64 { return t.restored }

// StagedBytes is about what the staged backup takes in memory. It is not in Bytes.
func (t *Tree) StagedBytes() int64 {
	if t.staging == nil {
		return 0
	}
	b := t.staging.build
	return b.t.Bytes() + b.bytes()
}

// dropStale forgets a staging that nobody goes on with.
func (t *Tree) dropStale() {
	if t.staging != nil && t.timeMs-t.staging.touchedMs > stagingIdleMs {
		t.staging = nil
	}
}

func (s *staging) mixInto(h uint64) uint64 {
	h = mix(h, s.id)
	h = mix(h, s.next)
	return mix(h, s.build.backup.sum)
}

// stage applies KindStage.
func (x *txn) stage() jute.Code {
	t := x.t
	d := decoder{b: x.e.Data}
	id, part := d.uint64(), d.uvarint()
	if !x.acc.Internal || d.err != nil || id == 0 {
		return jute.BadArguments
	}
	if part == 0 {
		t.staging = &staging{id: id, build: newRestorer()}
		t.staging.build.backup = &backupFacts{}
	}
	s := t.staging
	if s == nil || s.id != id || s.next != part {
		return jute.BadVersion
	}
	if err := s.build.payload(d.b[d.off:]); err != nil {
		t.staging = nil // half of a frame's records are in it
		return jute.BadArguments
	}
	s.next++
	s.touchedMs = x.time
	return jute.OK
}

// unstage applies KindUnstage.
func (x *txn) unstage() jute.Code {
	if !x.acc.Internal {
		return jute.BadArguments
	}
	if s := x.t.staging; s != nil && slices.Equal(x.e.Data, StageID(s.id)) {
		x.t.staging = nil
		return jute.OK
	}
	return jute.BadVersion
}

// swap applies KindSwap.
func (x *txn) swap() jute.Code {
	t, s := x.t, x.t.staging
	if !x.acc.Internal {
		return jute.BadArguments
	}
	if s == nil || !slices.Equal(x.e.Data, StageID(s.id)) || !s.build.ended || t.zxid >= zxidMax-2*swapZxids {
		return jute.BadVersion
	}
	if t.cut != nil {
		t.cut.staged.drain() // what follows changes the staged nodes
	}
	t.staging = nil
	if s.build.finishBackup() != nil {
		return jute.BadArguments
	}
	x.closeClients()
	into := s.build.t
	into.makeSpecial()
	if s.build.backup.recount || s.build.backup.left > 0 {
		into.recountQuotas()
	}
	grafted := into.high
	for _, path := range [...]string{pathConfig, PathCairn} {
		into.graft(t, path)
	}
	t.become(into)
	for id := grafted; id < t.high; id++ {
		t.own(id)
	}
	t.restored = s.id
	t.zxid = max(t.zxid-1, into.zxid) + swapZxids
	x.out.Zxid, x.out.Replaced = t.zxid, true
	return jute.OK
}

// closeClients ends all sessions of clients. What they knew of the tree is void, also for those that are not connected
// just now: a session that is gone is the only thing that tells each of them.
func (x *txn) closeClients() {
	for _, id := range sortedKeys(x.t.sessions) {
		if s := x.t.sessions[id]; s.incarnation == 0 {
			x.t.dropSession(s)
			x.out.Closed = append(x.out.Closed, id)
		} else {
			s.ephemerals = nil
		}
	}
}

// makeSpecial makes the nodes that every tree is born with.
func (t *Tree) makeSpecial() {
	for _, path := range [...]string{pathZooKeeper, pathQuota} {
		if t.find(path) == 0 {
			parent, name, _ := jute.SplitPath(path)
			p, hash := t.lookup(parent)
			t.insert(p, hash, insertion{path: path, name: name, kind: kindPersistent, data: []byte{}})
		}
	}
}

// graft copies the subtree at path of another tree, which shares its names and data, below the same parent.
func (t *Tree) graft(from *Tree, path string) {
	top := from.find(path)
	if top == 0 {
		return
	}
	type place struct {
		id   nodeID
		hash uint64
		size int // of the path
	}
	parentPath, _, _ := jute.SplitPath(path)
	parent, hash := t.lookup(parentPath)
	places := map[nodeID]place{from.node(top).parent: {parent, hash, len(path) - len(from.name(top)) - 1}}
	from.walk(top, func(old nodeID) bool {
		n, up := *from.node(old), places[from.node(old).parent]
		id, name := t.alloc(), from.name(old)
		n.acl = t.acls.intern(from.acls.list(n.acl))
		n.parent, n.first, n.next, n.prev, n.children = 0, 0, 0, 0, 0
		*t.node(id) = n
		t.setBlob(id, from.blob(old))
		t.acls.hold(n.acl)
		t.link(up.id, id)
		t.index.add(up.id, name, id)
		at := place{id, pathHash(up.hash, name), up.size + 1 + len(name)}
		t.sum(id, at.hash)
		t.count(id, 1, at.size)
		if from.node(old).first != 0 {
			places[old] = at
		}
		return true
	})
}

// become takes the nodes of another tree, which is of no use afterwards. A cut that is open goes on with the nodes that it
// was made of, which nobody changes any more.
func (t *Tree) become(into *Tree) {
	if c := t.cut; c != nil {
		left := *t
		left.sessions, left.boxes, left.staging = nil, nil, nil
		c.t = &left
		t.cut = nil
	}
	t.nodes, t.blobs, t.index, t.acls, t.quotas = into.nodes, into.blobs, into.index, into.acls, into.quotas
	sessionSum := t.totals.sessionSum
	t.totals = into.totals
	t.totals.sessionSum = sessionSum
	t.acls.sweep()
}

// recountQuotas counts the subtrees of all quotas anew, in one walk (DataTree.setupQuota).
func (t *Tree) recountQuotas() {
	stats := make(map[nodeID]string) // of what is counted → path of its stats node
	t.quotas.each(&t.quotas.root, "", func(prefix string) {
		if top := t.find(prefix); top != 0 {
			stats[top] = prefix
		} else {
			t.rewriteStats(prefix, quotaTrack{})
		}
	})
	if len(stats) == 0 {
		return
	}
	type level struct {
		id    nodeID
		track quotaTrack
	}
	var way []level
	counted := make(map[string]quotaTrack, len(stats))
	leave := func() {
		done := way[len(way)-1]
		way = way[:len(way)-1]
		if prefix, ok := stats[done.id]; ok {
			counted[prefix] = done.track
		}
		if len(way) > 0 {
			up := &way[len(way)-1].track
			up.count += done.track.count
			up.bytes += done.track.bytes
		}
	}
	t.walk(rootID, func(id nodeID) bool {
		for len(way) > 0 && way[len(way)-1].id != t.node(id).parent {
			leave()
		}
		way = append(way, level{id, quotaTrack{count: 1, bytes: int64(t.dataLen(id))}})
		return true
	})
	for len(way) > 0 {
		leave()
	}
	for prefix, track := range counted { // each by itself: the order does not matter
		t.rewriteStats(prefix, track)
	}
}

// rewriteStats puts stats into the stats node of a quota, if there is one. No version moves.
func (t *Tree) rewriteStats(prefix string, track quotaTrack) {
	if id, hash := t.lookup(pathQuota + prefix + "/" + quotaStats); id != 0 {
		t.unsum(id, hash)
		t.setData(id, []byte(track.String()))
		t.sum(id, hash)
	}
}

// stagedCut is the part of a snapshot that is a staged backup. What is staged only grows, until it is swapped in.
type stagedCut struct {
	build  *restorer
	header []byte
	lists  []stagedList
	number map[aclID]uint64 // a number in the stream of each list
	node   int
	nodes  int
	rest   [][]byte // records, when the nodes had to be let go of
}

type stagedList struct {
	number uint64
	acl    aclID
}

func cutStaging(s *staging) *stagedCut {
	if s == nil {
		return nil
	}
	b := s.build
	c := &stagedCut{build: b, nodes: len(b.olds), number: make(map[aclID]uint64, len(b.acls))}
	for _, number := range sortedKeys(b.acls) {
		c.lists = append(c.lists, stagedList{number, b.acls[number]})
		c.number[b.acls[number]] = number
	}
	h := binary.LittleEndian.AppendUint64([]byte{recordStaging}, s.id)
	h = binary.AppendUvarint(h, s.next)
	h = binary.AppendVarint(h, s.touchedMs)
	h = binary.LittleEndian.AppendUint64(h, b.backup.sum)
	h = binary.AppendVarint(binary.AppendVarint(h, b.t.zxid), b.t.timeMs)
	h = jute.AppendBool(h, b.ended)
	h = binary.AppendUvarint(binary.AppendUvarint(h, b.nodes), b.backup.left)
	c.header = jute.AppendBool(h, b.backup.recount)
	return c
}

// record appends at most one record; false says that there are no more. A nil one has none.
func (c *stagedCut) record(dst []byte) ([]byte, bool) {
	switch {
	case c == nil:
		return dst, false
	case len(c.rest) > 0:
		dst = append(dst, c.rest[0]...)
		c.rest = c.rest[1:]
		return dst, len(c.rest) > 0
	case c.header != nil:
		dst = append(dst, c.header...)
		c.header = nil
	case len(c.lists) > 0:
		l := c.lists[0]
		dst = binary.AppendUvarint(append(dst, recordStagedACLs), l.number)
		dst = appendACLs(dst, c.build.t.acls.list(l.acl))
		c.lists = c.lists[1:]
	case c.build != nil && c.node < c.nodes:
		id := rootID + nodeID(c.node)
		pre := preimage{node: *c.build.t.node(id), blob: c.build.t.blob(id)}
		if pre.node.prev != 0 { // it is linked: its parent has its new id
			pre.node.parent = c.build.olds[pre.node.parent-rootID]
		}
		dst = appendNode(append(dst, recordStagedNode), c.build.olds[c.node], pre, c.number[pre.node.acl])
		c.node++
	default:
		return dst, false
	}
	return dst, true
}

// drain keeps what was not written yet as records, so that the nodes may change.
func (c *stagedCut) drain() {
	if c == nil || c.build == nil {
		return
	}
	var rest [][]byte
	for more := true; more; {
		var b []byte
		if b, more = c.record(nil); len(b) > 0 {
			rest = append(rest, b)
		}
	}
	c.rest, c.build = rest, nil
}

var errStaging = errors.New("a staging without an id")

// readStaging reads what a snapshot says of a staged backup; its lists and nodes follow.
func readStaging(d *decoder) *staging {
	s := &staging{id: d.uint64(), next: d.uvarint(), touchedMs: d.varint(), build: newRestorer()}
	b := s.build
	b.headed, b.backup = true, &backupFacts{sum: d.uint64()}
	b.t.zxid, b.t.timeMs = d.varint(), d.varint()
	b.ended = d.byte() != 0
	b.nodes, b.backup.left = d.uvarint(), d.uvarint()
	b.backup.recount = d.byte() != 0
	if d.err == nil && (s.id == 0 || s.next == 0) {
		d.fail("%v", errStaging)
	}
	return s
}
