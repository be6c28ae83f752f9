package znode

import "math/bits"

// The digest of a tree is a sum of one 64-bit hash per node and per session, so that it does not depend on an order and
// is kept up to date by subtracting what was and adding what is. It is meant to find boxes that differ through a bug or
// a bad bit, not to withstand somebody who looks for collisions. What enters it is a rule like any other: boxes of two builds
// compare it, so that a build which computes it otherwise does so under a new rules version only.

const (
	sumPrime1 = 0x9e3779b97f4a7c15
	sumPrime2 = 0xd6e8feb86659fd93
	sumRoot   = 0x63616972 // the hash of the root's path
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^sumPrime1, b^sumPrime2)
	return hi ^ lo
}

// hashString hashes s under a seed; the same on every machine.
func hashString(seed uint64, s string) uint64 {
	h := mix(seed, uint64(len(s)))
	for len(s) >= 8 {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		h = mix(h, w)
		s = s[8:]
	}
	var w uint64
	for i := range len(s) {
		w |= uint64(s[i]) << (8 * i)
	}
	return mix(h, w)
}

// pathHash is the hash of a child's path, from its parent's.
func pathHash(parent uint64, name string) uint64 { return hashString(parent, name) }

// metaSum is the part of a node's hash that its data does not enter, so that a change of the parent's counters does not
// cost a pass over the parent's data.
func (t *Tree) metaSum(id nodeID, path uint64) uint64 {
	n := t.node(id)
	h := mix(path, uint64(n.czxid))
	h = mix(h, uint64(n.mzxid))
	h = mix(h, uint64(n.pzxid))
	h = mix(h, uint64(n.ctime))
	h = mix(h, uint64(n.mtime))
	h = mix(h, uint64(n.owner))
	h = mix(h, uint64(uint32(n.version))|uint64(uint32(n.cversion))<<32)
	h = mix(h, uint64(uint32(n.aversion))|uint64(n.kind)<<32)
	return mix(h, t.acls.hash(n.acl))
}

// dataSum is the part of a node's hash that is its data.
func (t *Tree) dataSum(id nodeID, path uint64) uint64 {
	n := t.node(id)
	if !n.hasData {
		return 0
	}
	return hashString(path^sumPrime2, t.blob(id)[n.nameLen:])
}

func (s *session) sum() uint64 {
	h := mix(uint64(s.id), uint64(uint32(s.timeoutMs)))
	h = mix(h, s.box)
	return mix(h, s.incarnation)
}

// Digest is the same on two boxes whose trees are the same: nodes, ACLs, sessions, counters and rules. It costs nothing.
func (t *Tree) Digest() uint64 {
	h := mix(t.totals.nodeSum, t.totals.sessionSum)
	h = mix(h, uint64(t.zxid))
	h = mix(h, uint64(t.timeMs))
	h = mix(h, uint64(t.rules))
	h = mix(h, t.restored)
	if t.staging != nil {
		h = t.staging.mixInto(h)
	}
	return hashString(h, string(t.secret))
}
