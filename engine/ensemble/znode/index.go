package znode

import "hash/maphash"

// index finds a node by its parent and its name. It is an open-addressing table of {hash, id}, cut into shards so that
// growing it never moves more than a small part at once. Names stay in the nodes: a slot whose hash matches is compared
// there. The hash is seeded at random in each process, so that no client can choose names that collide; nothing that the
// tree answers depends on it.
type index struct {
	seed   maphash.Seed
	shards [indexShards]indexShard
}

const indexShards = 256

type indexShard struct {
	slots []indexSlot // a power of two, or none
	used  int
}

type indexSlot struct {
	hash uint32
	id   nodeID // 0: free
}

// indexBytes is what a node takes in the index on average: 8 bytes a slot at a load between 3/8 and 3/4.
const indexBytes = 14

func (x *index) hash(parent nodeID, name string) uint64 {
	return mix(maphash.String(x.seed, name), uint64(parent))
}

func (x *index) shard(h uint64) *indexShard { return &x.shards[h>>56] }

// find returns the node with this parent and name, or 0.
func (x *index) find(t *Tree, parent nodeID, name string) nodeID {
	h := x.hash(parent, name)
	s := x.shard(h)
	if s.used == 0 {
		return 0
	}
	mask := uint32(len(s.slots) - 1)
	for i := uint32(h) & mask; ; i = (i + 1) & mask {
		slot := s.slots[i]
		if slot.id == 0 {
			return 0
		}
		if slot.hash == uint32(h) && t.node(slot.id).parent == parent && t.name(slot.id) == name {
			return slot.id
		}
	}
}

// add puts a node in. It must not be in.
func (x *index) add(parent nodeID, name string, id nodeID) {
	h := x.hash(parent, name)
	s := x.shard(h)
	if s.used*4 >= len(s.slots)*3 {
		s.grow()
	}
	s.put(indexSlot{hash: uint32(h), id: id})
	s.used++
}

func (s *indexShard) put(slot indexSlot) {
	mask := uint32(len(s.slots) - 1)
	i := slot.hash & mask
	for s.slots[i].id != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = slot
}

func (s *indexShard) grow() {
	old := s.slots
	s.slots = make([]indexSlot, max(8, 2*len(old)))
	for _, slot := range old {
		if slot.id != 0 {
			s.put(slot)
		}
	}
}

// remove takes a node out that is in, and closes the gap so that no tombstones remain.
func (x *index) remove(parent nodeID, name string, id nodeID) {
	h := x.hash(parent, name)
	s := x.shard(h)
	mask := uint32(len(s.slots) - 1)
	i := uint32(h) & mask
	for s.slots[i].id != id {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; s.slots[j].id != 0; j = (j + 1) & mask {
		// The slot at j may move to the gap at i unless its home lies between them.
		if home := s.slots[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = indexSlot{}
	s.used--
}
