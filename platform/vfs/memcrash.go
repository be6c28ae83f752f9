package vfs

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
)

// memSector is what a device writes whole or not at all.
const memSector = 512

// Crash returns what a machine finds after a power cut at this moment: all that was synced, and of what was not any part
// that the rng chooses:
//
//   - of the names of a directory, a prefix of the changes;
//   - of a file, nothing, everything, a prefix of the changes with the last one torn, or any subset of its 512-byte
//     sectors, each in one of the states that it went through; the length may be any that it had meanwhile, with zeros
//     where no bytes came.
//
// Equal states and equal rng sequences give equal results. The receiver stays as it is: a test that means the power of a
// running system calls PowerOff or CrashAtSync before. Locks, hooks and open files are gone in the result; devices and
// capacities stay.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	return m.crash(chance{rng: rng, pick: func(n int) int { return rng.IntN(n + 1) }})
}

// CrashStrict is a power cut that takes everything that was not synced.
func (m *Mem) CrashStrict() *Mem { return m.crash(chance{pick: func(int) int { return 0 }}) }

// CrashAll is a power cut that takes nothing, as after a kill of the process alone.
func (m *Mem) CrashAll() *Mem { return m.crash(chance{pick: func(n int) int { return n }}) }

// chance decides how much of something survives.
type chance struct {
	rng  *rand.Rand      // nil: all or nothing, as pick says
	pick func(n int) int // a number from 0 to n
}

func (m *Mem) crash(c chance) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := &Mem{devices: map[uint64]*memDevice{}, mounts: maps.Clone(m.mounts)}
	for id, d := range m.devices {
		after.device(id).capacity = d.capacity
	}
	survivor := &survival{after: after, chance: c, cuts: m.cutNames(c)}
	after.root = survivor.node(m.root)
	return after
}

// cutNames decides for every directory how many of its changes survive. Both halves of a rename between directories do,
// or neither: where one would, its directory's cut is moved before it, until all agree.
func (m *Mem) cutNames(c chance) map[*memNode]int {
	dirs := map[*memNode]bool{}
	m.root.collectDirs(dirs)
	sorted := slices.SortedFunc(maps.Keys(dirs), func(a, b *memNode) int { return cmp.Compare(a.id, b.id) })
	cuts := make(map[*memNode]int, len(sorted))
	for _, d := range sorted {
		cuts[d] = c.pick(len(d.pendingNames))
	}
	for moved := true; moved; {
		moved = false
		for _, d := range sorted {
			for i, op := range d.pendingNames[:cuts[d]] {
				if op.peer == nil {
					continue
				}
				if j := op.peer.findTransaction(op.transaction); j >= cuts[op.peer] {
					cuts[d], moved = i, true
					break
				}
			}
		}
	}
	return cuts
}

// collectDirs adds every directory that a crash could leave.
func (n *memNode) collectDirs(into map[*memNode]bool) {
	if !n.dir || into[n] {
		return
	}
	into[n] = true
	for _, names := range []map[string]*memNode{n.names, n.durable} {
		for _, child := range names {
			child.collectDirs(into)
		}
	}
	for _, op := range n.pendingNames {
		if op.node != nil {
			op.node.collectDirs(into)
		}
		if op.peer != nil {
			op.peer.collectDirs(into)
		}
	}
}

// survival copies what survives into a new Mem, in sorted order of names, so that the chances fall the same way each time.
type survival struct {
	after *Mem
	chance
	cuts map[*memNode]int
}

func (s *survival) node(n *memNode) *memNode {
	if n.dir {
		return s.directory(n)
	}
	image := s.image(n)
	file := s.after.newNode(false, s.after.device(n.device.id))
	file.data = append(make([]byte, 0, roundBlocks(int64(len(image)))), image...)
	file.synced = slices.Clone(image)
	// Preallocated blocks stay: the file system knows them though nobody asked for a sync. So recovery has to cut them.
	file.blocks = blockSet{words: slices.Clone(n.blocks.words)}
	if size := int64(len(image)); size > int64(len(n.data)) {
		file.blocks.set(roundBlocks(int64(len(n.data)))/memBlock, roundBlocks(size)/memBlock)
	}
	file.device.used += memBlock * file.blocks.count()
	return file
}

func (s *survival) directory(n *memNode) *memNode {
	dir := s.after.newNode(true, s.after.device(n.device.id))
	names := maps.Clone(n.durable)
	for _, op := range n.pendingNames[:s.cuts[n]] {
		op.apply(names)
	}
	for _, base := range slices.Sorted(maps.Keys(names)) {
		dir.names[base] = s.node(names[base])
	}
	dir.durable = maps.Clone(dir.names)
	return dir
}

// image is what survives of a file's bytes.
func (s *survival) image(n *memNode) []byte {
	image := slices.Clone(n.synced)
	if s.rng == nil {
		for _, op := range n.pending[:s.pick(len(n.pending))] {
			image = op.apply(image)
		}
		return image
	}
	if len(n.pending) == 0 {
		return image
	}
	switch s.rng.IntN(4) {
	case 0:
		return image
	case 1:
		return slices.Clone(n.data)
	case 2:
		return s.prefix(image, n.pending)
	default:
		return s.sectors(image, n.pending)
	}
}

// prefix applies the first changes and the first sectors of the next; the length may already be a later one.
func (s *survival) prefix(image []byte, ops []dataOp) []byte {
	k := s.pick(len(ops))
	for _, op := range ops[:k] {
		image = op.apply(image)
	}
	if k == len(ops) || ops[k].truncate {
		return image
	}
	torn := ops[k]
	size := max(int64(len(image)), torn.at+int64(len(torn.bytes)))
	end := (torn.at/memSector + int64(s.pick(len(torn.bytes)/memSector+1))) * memSector
	if end > torn.at {
		torn.bytes = torn.bytes[:min(int64(len(torn.bytes)), end-torn.at)]
		image = torn.apply(image)
	}
	if s.pick(1) == 1 {
		image = resize(image, max(size, int64(len(image))))
	}
	return image
}

// sectors lets every sector stop in any of its states. Truncations happen in order; where one did not happen, nothing
// that was written later beyond its length did either, because the blocks were not free before.
func (s *survival) sectors(image []byte, ops []dataOp) []byte {
	ops, sizes := s.dropAfterLostTruncate(ops, int64(len(image)))
	touched := map[int64]int{}
	for _, op := range ops {
		for sector := range op.sectors() {
			touched[sector]++
		}
	}
	kept := make(map[int64]int, len(touched))
	for _, sector := range slices.Sorted(maps.Keys(touched)) {
		kept[sector] = s.pick(touched[sector])
	}
	for _, op := range ops {
		if op.truncate {
			image = op.apply(image)
			continue
		}
		for sector, part := range op.sectors() {
			if kept[sector] > 0 {
				kept[sector]--
				image = part.apply(image)
			}
		}
	}
	return resize(image, sizes[s.pick(len(sizes)-1)])
}

// dropAfterLostTruncate decides how many truncations happened and returns the changes without the others and without
// what cannot have happened then, and the lengths from which the file's is to be chosen: those since the last truncation.
func (s *survival) dropAfterLostTruncate(ops []dataOp, size int64) (left []dataOp, sizes []int64) {
	truncations := 0
	for _, op := range ops {
		if op.truncate {
			truncations++
		}
	}
	happened := s.pick(truncations)
	limit := int64(memFileMax)
	sizes = []int64{size}
	for _, op := range ops {
		if op.truncate {
			if happened == 0 {
				limit = min(limit, op.at)
				continue
			}
			happened--
			size, sizes = op.at, []int64{op.at}
			left = append(left, op)
			continue
		}
		if op.at >= limit {
			continue
		}
		op.bytes = op.bytes[:min(int64(len(op.bytes)), limit-op.at)]
		left = append(left, op)
		if end := op.at + int64(len(op.bytes)); end > size {
			// The length moves with the sectors of one write.
			for at := (size/memSector + 1) * memSector; at < end; at += memSector {
				sizes = append(sizes, at)
			}
			size, sizes = end, append(sizes, end)
		}
	}
	return left, sizes
}

// sectors yields the parts of a write by the sector that they lie in.
func (op dataOp) sectors() func(yield func(sector int64, part dataOp) bool) {
	return func(yield func(int64, dataOp) bool) {
		if op.truncate {
			return
		}
		for at, b := op.at, op.bytes; len(b) > 0; {
			sector := at / memSector
			n := min(int64(len(b)), (sector+1)*memSector-at)
			if !yield(sector, dataOp{at: at, bytes: b[:n]}) {
				return
			}
			at, b = at+n, b[n:]
		}
	}
}

// count is how many blocks there are.
func (s *blockSet) count() uint64 {
	all := blockSet{words: slices.Clone(s.words)}
	return all.cut(0)
}
