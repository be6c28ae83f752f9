package compact

import (
	"crypto/sha256"
	"encoding/binary"
)

// OffsetMap holds the latest offset of each of a bounded number of keys (SkimpyOffsetMap). Of a key it keeps 128 bits of a
// cryptographic hash: two keys that collide would cost a record, and nobody can choose keys that do.
type OffsetMap struct {
	slots []slot
	count int
	max   int
}

type slot struct {
	hash   [hashSize]byte
	offset int64 // + 1, so that 0 is an empty slot
}

const (
	hashSize = 16
	slotSize = hashSize + 8
)

// slotsMin makes a pass possible whatever the bounds say.
const slotsMin = 16

// NewOffsetMap makes a map for up to keys keys in at most bytesMax bytes, of which it fills load, from 0 to 1.
func NewOffsetMap(keys, bytesMax int64, load float64) *OffsetMap {
	load = min(max(load, 0.1), 0.95)
	slots := max(min(int64(float64(keys)/load)+1, bytesMax/slotSize), slotsMin)
	return &OffsetMap{slots: make([]slot, slots), max: int(float64(slots) * load)}
}

// Full reports whether another key may not fit.
func (m *OffsetMap) Full() bool { return m.count >= m.max }

// Len is the number of keys.
func (m *OffsetMap) Len() int { return m.count }

// Put notes that key has a record at offset. It reports false for a new key that does not fit.
func (m *OffsetMap) Put(key []byte, offset int64) bool {
	hash, i := m.find(key)
	if m.slots[i].offset == 0 {
		if m.Full() {
			return false
		}
		m.count++
		m.slots[i].hash = hash
	}
	m.slots[i].offset = max(m.slots[i].offset, offset+1)
	return true
}

// Get is the latest offset of a key, or -1.
func (m *OffsetMap) Get(key []byte) int64 {
	_, i := m.find(key)
	return m.slots[i].offset - 1
}

// find is the slot of a key, or the empty one where it would go. There is always an empty one.
func (m *OffsetMap) find(key []byte) (hash [hashSize]byte, i uint64) {
	sum := sha256.Sum256(key)
	hash = [hashSize]byte(sum[:hashSize])
	n := uint64(len(m.slots))
	i = binary.LittleEndian.Uint64(sum[hashSize:]) % n
	for m.slots[i].offset != 0 && m.slots[i].hash != hash {
		if i++; i == n {
			i = 0
		}
	}
	return hash, i
}
