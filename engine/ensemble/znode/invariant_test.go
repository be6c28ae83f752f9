package znode

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cairn/engine/ensemble/jute"
)

// checkTree recomputes everything that the tree keeps up to date by the change, and compares.
func checkTree(t *Tree) error {
	fresh := totals{high: t.high, free: t.free, freeCount: t.freeCount}
	refs := make(map[aclID]uint32)
	for id := rootID; id < t.high; id++ {
		n := t.node(id)
		fresh.blobBytes += blobBytes(len(t.blob(id)))
		if n.kind == kindFree {
			if t.blob(id) != "" {
				return fmt.Errorf("free node %d holds %q", id, t.blob(id))
			}
			continue
		}
		refs[n.acl]++
		fresh.live++
		path := t.path(id)
		fresh.dataSize += int64(len(path) + t.dataLen(id))
		found, hash := t.lookup(path)
		if found != id || t.find(path) != id {
			return fmt.Errorf("%s is node %d, found %d", path, id, found)
		}
		fresh.nodeSum += t.metaSum(id, hash) + t.dataSum(id, hash)
		switch n.kind {
		case kindEphemeral:
			fresh.ephemerals++
			s := t.sessions[n.owner]
			if s == nil {
				return fmt.Errorf("%s is of session %#x, which is not open", path, n.owner)
			}
			if _, ok := s.ephemerals[id]; !ok {
				return fmt.Errorf("%s is missing in session %#x", path, n.owner)
			}
		case kindContainer:
			fresh.containers++
		case kindTTL:
			fresh.ttls++
		}
		if err := checkChildren(t, id); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	owned := 0
	for _, s := range t.sessions {
		owned += len(s.ephemerals)
		fresh.sessionSum += s.sum()
	}
	if owned != fresh.ephemerals {
		return fmt.Errorf("sessions own %d ephemerals, there are %d", owned, fresh.ephemerals)
	}
	if fresh != t.totals {
		return fmt.Errorf("totals are\n%+v, recomputed\n%+v", t.totals, fresh)
	}
	free := 0
	for id := t.free; id != 0; id = t.node(id).next {
		free++
		if t.node(id).kind != kindFree || free > t.freeCount {
			return fmt.Errorf("list of free nodes is broken at %d", id)
		}
	}
	used := 0
	for i := range t.index.shards {
		used += t.index.shards[i].used
	}
	if free != t.freeCount || fresh.live+free != int(t.high)-1 || used != fresh.live-1 {
		return fmt.Errorf("%d live, %d free, %d indexed of %d nodes", fresh.live, free, used, t.high-1)
	}
	if t.cut == nil {
		for id := range t.acls.entries {
			if e := &t.acls.entries[id]; e.refs != refs[aclID(id)] || id != 0 && e.refs == 0 && e.list != nil {
				return fmt.Errorf("ACLs %d have %d references, %d nodes have them", id, e.refs, refs[aclID(id)])
			}
		}
	}
	limits := 0
	t.walk(t.find(pathQuota), func(id nodeID) bool {
		if path := t.path(id); strings.HasSuffix(path, "/"+quotaLimits) {
			target := quotaTarget(strings.TrimSuffix(path, "/"+quotaLimits))
			if target != "" {
				limits++
				if t.quotas.nearest(target) != target {
					limits = -1 << 30
				}
			}
		}
		return true
	})
	if limits != t.quotas.count {
		return fmt.Errorf("%d quotas in the trie, %d limits nodes", t.quotas.count, limits)
	}
	return nil
}

func checkChildren(t *Tree, id nodeID) error {
	n := t.node(id)
	count := uint32(0)
	last := nodeID(0)
	for c := n.first; c != 0; c = t.node(c).next {
		if t.node(c).parent != id || last != 0 && t.node(c).prev != last {
			return fmt.Errorf("child %d has parent %d and sibling %d", c, t.node(c).parent, t.node(c).prev)
		}
		last = c
		if count++; count > n.children {
			break
		}
	}
	if count != n.children || n.first != 0 && t.node(n.first).prev != last {
		return fmt.Errorf("%d children in the list, %d counted", count, n.children)
	}
	return nil
}

// dump is the whole tree as text that does not depend on how the tree came to be.
func dump(t *Tree) string {
	var lines []string
	t.Walk("/", func(path string, data []byte, _ jute.Stat) bool {
		id := t.find(path)
		lines = append(lines, fmt.Sprintf("%s %s %q %v %+v", path, kindNames[t.node(id).kind], showData(data), t.NodeACL(path), t.stat(id)))
		return true
	})
	slices.Sort(lines)
	for _, s := range t.Sessions() {
		lines = append(lines, fmt.Sprintf("%+v", s))
	}
	lines = append(lines, fmt.Sprintf("zxid %d time %d rules %d secret %x digest %016x", t.zxid, t.timeMs, t.rules, t.secret, t.Digest()))
	return strings.Join(lines, "\n")
}

var kindNames = map[nodeKind]string{
	kindPersistent: "persistent", kindEphemeral: "ephemeral", kindContainer: "container", kindTTL: "ttl",
}

func showData(b []byte) string {
	if b == nil {
		return "<null>"
	}
	return string(b)
}

// restored writes the tree to a snapshot and reads it back.
func restored(tb testing.TB, t *Tree) *Tree {
	tb.Helper()
	c, err := t.Cut()
	if err != nil {
		tb.Fatal(err)
	}
	return readCut(tb, c, 64)
}

func readCut(tb testing.TB, c *Cut, size int) *Tree {
	tb.Helper()
	var stream []byte
	for more := true; more; {
		stream, more = c.Next(stream, size)
	}
	back, err := Restore(bytes.NewReader(stream))
	if err != nil {
		tb.Fatal(err)
	}
	return back
}
