package vfs

import (
	"math"
	"slices"
	"syscall"
)

const (
	// memBlock is the unit in which devices give space and mappings are read: the page of most machines.
	memBlock = 4096
	// memFileMax keeps a wrong offset from taking all memory; EFBIG is what Linux says.
	memFileMax = math.MaxInt32 / memBlock * memBlock
)

// memNode is an inode: a directory or a file, with what is there now and what a power cut would leave for certain.
type memNode struct {
	id       uint64
	dir      bool
	device   *memDevice
	opens    int  // open files, mappings, locks
	unlinked bool // no name any more
	locked   bool

	// Of a directory. Invariant: names is durable with all of pendingNames applied.
	names        map[string]*memNode
	durable      map[string]*memNode
	pendingNames []nameOp

	// Of a file. Invariants: data is synced with all of pending applied; between len(data) and cap(data), which is a
	// multiple of memBlock, all is zero. A reader of a mapping may hold data without the lock: bytes that were cut off
	// are never written again, a new array takes their place.
	data    []byte
	synced  []byte
	pending []dataOp
	blocks  blockSet
}

// nameOp is one change to a directory that is not durable yet: a name goes, a name comes, or both (a rename inside the
// directory). With a peer it is half of a rename between directories.
type nameOp struct {
	removed, added string
	node           *memNode
	peer           *memNode
	transaction    uint64
}

func (op nameOp) apply(names map[string]*memNode) {
	if op.removed != "" {
		delete(names, op.removed)
	}
	if op.added != "" {
		names[op.added] = op.node
	}
}

// dataOp is one change to a file that is not durable yet: bytes written at an offset, or a new length.
type dataOp struct {
	truncate bool
	at       int64 // offset of the bytes, or the new length
	bytes    []byte
}

func (op dataOp) apply(image []byte) []byte {
	if op.truncate {
		return resize(image, op.at)
	}
	if end := op.at + int64(len(op.bytes)); end > int64(len(image)) {
		image = resize(image, end)
	}
	copy(image[op.at:], op.bytes)
	return image
}

// resize cuts or extends with zeros.
func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (n *memNode) info(base string) Info {
	if n.dir {
		return Info{Name: base, IsDir: true}
	}
	return Info{Name: base, Size: int64(len(n.data))}
}

func (n *memNode) change(op nameOp) {
	op.apply(n.names)
	n.pendingNames = append(n.pendingNames, op)
}

// commitNames makes the first upto changes durable, and what belongs to the same transactions in other directories with
// all that came before it there: the journal is written in order.
func (n *memNode) commitNames(upto int) {
	ops := n.pendingNames[:upto]
	n.pendingNames = slices.Clone(n.pendingNames[upto:])
	for _, op := range ops {
		op.apply(n.durable)
	}
	for _, op := range ops {
		if op.peer == nil {
			continue
		}
		if i := op.peer.findTransaction(op.transaction); i >= 0 {
			op.peer.commitNames(i + 1)
		}
	}
}

func (n *memNode) findTransaction(id uint64) int {
	return slices.IndexFunc(n.pendingNames, func(op nameOp) bool { return op.transaction == id })
}

// write puts p at off as far as the device has room, and says how much that was.
func (n *memNode) write(p []byte, off int64) (written int, err error) {
	end := off + int64(len(p))
	if off > memFileMax-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	if room := n.reserve(off, end); room < end {
		p, err = p[:room-off], syscall.ENOSPC
	}
	if len(p) > 0 {
		n.grow(off + int64(len(p)))
		copy(n.data[off:], p)
		n.pending = append(n.pending, dataOp{at: off, bytes: slices.Clone(p)})
	}
	return len(p), err
}

// reserve takes blocks for [off, end) from the front until the device has none, and says how far it came.
func (n *memNode) reserve(off, end int64) int64 {
	for b := off / memBlock; b < roundBlocks(end)/memBlock; b++ {
		if n.blocks.has(b) {
			continue
		}
		if n.device.free() == 0 {
			return max(off, b*memBlock)
		}
		n.device.used += memBlock * n.blocks.set(b, b+1)
	}
	return end
}

// truncate sets the length and gives back the blocks beyond it, preallocated ones too. Growing takes no blocks: the file
// is sparse there.
func (n *memNode) truncate(size int64) error {
	switch {
	case size > memFileMax:
		return syscall.EFBIG
	case size > int64(len(n.data)):
		n.grow(size)
	case size < int64(len(n.data)):
		n.data = append(make([]byte, 0, roundBlocks(size)), n.data[:size]...)
	}
	n.device.used -= memBlock * n.blocks.cut(roundBlocks(size)/memBlock)
	n.pending = append(n.pending, dataOp{truncate: true, at: size})
	return nil
}

// preallocate takes the blocks of a range, all or none.
func (n *memNode) preallocate(off, length int64) error {
	if off > memFileMax-length {
		return syscall.EFBIG
	}
	first, end := off/memBlock, roundBlocks(off+length)/memBlock
	need := n.blocks.missing(first, end)
	if need > n.device.free() {
		return syscall.ENOSPC
	}
	n.device.used += memBlock * n.blocks.set(first, end)
	return nil
}

// grow makes the data at least size long.
func (n *memNode) grow(size int64) {
	if size <= int64(len(n.data)) {
		return
	}
	if size > int64(cap(n.data)) {
		capacity := roundBlocks(max(size, min(2*int64(cap(n.data)), memFileMax)))
		n.data = append(make([]byte, 0, capacity), n.data...)
	}
	n.data = n.data[:size]
}

// sync makes data and length durable.
func (n *memNode) sync() {
	for _, op := range n.pending {
		n.synced = op.apply(n.synced)
	}
	n.pending = nil
}

// free gives the blocks back when neither a name nor an open file holds the node.
func (n *memNode) free() {
	if !n.unlinked || n.opens > 0 {
		return
	}
	n.device.used -= memBlock * n.blocks.cut(0)
}

// free is how many more blocks the device can give.
func (d *memDevice) free() uint64 {
	if d.capacity == 0 {
		return math.MaxUint64
	}
	return (d.capacity - min(d.capacity, d.used)) / memBlock
}

func roundBlocks(n int64) int64 { return (n + memBlock - 1) / memBlock * memBlock }

// blockSet says which blocks of a file the device has given it: a bit for each.
type blockSet struct {
	words []uint64
}

func (s *blockSet) has(block int64) bool {
	w := block / 64
	return w < int64(len(s.words)) && s.words[w]&(1<<(block%64)) != 0
}

func (s *blockSet) missing(first, end int64) (n uint64) {
	for b := first; b < end; b++ {
		if !s.has(b) {
			n++
		}
	}
	return n
}

// set adds [first, end) and says how many were new.
func (s *blockSet) set(first, end int64) (n uint64) {
	if words := (end + 63) / 64; words > int64(len(s.words)) {
		s.words = append(s.words, make([]uint64, words-int64(len(s.words)))...)
	}
	for b := first; b < end; b++ {
		if !s.has(b) {
			s.words[b/64] |= 1 << (b % 64)
			n++
		}
	}
	return n
}

// cut drops all from first on and says how many they were.
func (s *blockSet) cut(first int64) (n uint64) {
	for b := first; b < int64(len(s.words))*64; b++ {
		if s.has(b) {
			s.words[b/64] &^= 1 << (b % 64)
			n++
		}
	}
	s.words = s.words[:min(int64(len(s.words)), (first+63)/64)]
	return n
}
