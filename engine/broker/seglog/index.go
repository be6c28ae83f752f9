package seglog

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"

	"cairn/platform/vfs"
)

// Sizes in bytes of index entries, all big-endian:
//
//	offset index: relative offset of a batch's last record int32 | position of the batch in the log int32
//	time index:   greatest timestamp so far int64 | relative offset of the last record of its batch int32
const (
	indexEntrySize = 8
	timeEntrySize  = 12
)

type indexEntry struct{ relative, position uint32 }

type timeEntry struct{ timestamp, offset int64 }

func appendIndexEntry(b []byte, e indexEntry) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, e.relative), e.position)
}

func appendTimeEntry(b []byte, base int64, e timeEntry) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, uint64(e.timestamp)), uint32(e.offset-base))
}

func readIndexEntry(f vfs.File, i int64) (indexEntry, error) {
	var b [indexEntrySize]byte
	if err := readFull(f, b[:], i*indexEntrySize); err != nil {
		return indexEntry{}, err
	}
	return indexEntry{binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:])}, nil
}

func readTimeEntry(f vfs.File, base, i int64) (timeEntry, error) {
	var b [timeEntrySize]byte
	if err := readFull(f, b[:], i*timeEntrySize); err != nil {
		return timeEntry{}, err
	}
	return timeEntry{int64(binary.BigEndian.Uint64(b[:])), base + int64(int32(binary.BigEndian.Uint32(b[8:])))}, nil
}

// readFull reads exactly len(b) bytes; a file that ends before is io.ErrUnexpectedEOF.
func readFull(f vfs.File, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// floorIndex finds the last of n entries whose offset is below before; ok is false if there is none. Entries of zeros
// behind the first are what a crash left of entries that were never written, and count as beyond. It reads the first entry
// of a few blocks, and then one block, through buf, which has room for at least one entry.
func floorIndex(f vfs.File, n, base, before int64, buf []byte) (e indexEntry, i int64, ok bool, err error) {
	parse := func(b []byte) indexEntry {
		return indexEntry{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
	}
	beyond := func(e indexEntry, i int64) bool {
		return i > 0 && e == (indexEntry{}) || base+int64(e.relative) >= before
	}
	perBlock := int64(min(len(buf), chunkSize) / indexEntrySize)
	low, high := int64(0), (n+perBlock-1)/perBlock // the first block that begins beyond
	for low < high {
		mid := (low + high) / 2
		if err := readFull(f, buf[:indexEntrySize], mid*perBlock*indexEntrySize); err != nil {
			return e, 0, false, err
		}
		if beyond(parse(buf), mid*perBlock) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == 0 {
		return e, 0, false, nil
	}
	first := (low - 1) * perBlock
	b := buf[:min(perBlock, n-first)*indexEntrySize]
	if err := readFull(f, b, first*indexEntrySize); err != nil {
		return e, 0, false, err
	}
	i = int64(sort.Search(len(b)/indexEntrySize, func(i int) bool {
		return beyond(parse(b[i*indexEntrySize:]), first+int64(i))
	}))
	if i == 0 {
		return e, 0, false, nil
	}
	return parse(b[(i-1)*indexEntrySize:]), first + i - 1, true, nil
}

// floorTime finds the last of n entries for which beyond is false.
func floorTime(f vfs.File, n, base int64, beyond func(timeEntry) bool) (e timeEntry, i int64, ok bool, err error) {
	i, err = search(n, func(i int64) (bool, error) {
		e, err := readTimeEntry(f, base, i)
		return i > 0 && e == (timeEntry{0, base}) || beyond(e), err
	})
	if err != nil || i == 0 {
		return timeEntry{}, 0, false, err
	}
	e, err = readTimeEntry(f, base, i-1)
	return e, i - 1, err == nil, err
}

// search is sort.Search with errors over int64.
func search(n int64, f func(i int64) (bool, error)) (int64, error) {
	var failed error
	i := sort.Search(int(n), func(i int) bool {
		if failed != nil {
			return true
		}
		yes, err := f(int64(i))
		failed = err
		return yes
	})
	return int64(i), failed
}

// entries is how many whole entries a file of that size holds.
func entries(f vfs.File, entrySize int64) (int64, error) {
	size, err := f.Size()
	return size / entrySize, err
}

// AbortedTxn is a row of the transaction index (org.apache.kafka.storage.internals.log.AbortedTxn).
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64 // of the transaction's records
	LastOffset  int64 // of its abort marker
	// LastStableOffset is the last stable offset after the marker was appended.
	LastStableOffset int64
}

// abortedSize is the length in bytes of a row: version int16 0 | producer id | first offset | last offset | last stable
// offset, int64 each.
const abortedSize = 34

func (a AbortedTxn) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 0)
	for _, v := range [...]int64{a.ProducerID, a.FirstOffset, a.LastOffset, a.LastStableOffset} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func parseAborted(b []byte) (AbortedTxn, error) {
	if v := int16(binary.BigEndian.Uint16(b)); v != 0 {
		return AbortedTxn{}, fmt.Errorf("transaction index row of version %d", v)
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[2+8*i:])) }
	a := AbortedTxn{at(0), at(1), at(2), at(3)}
	if a.FirstOffset < 0 || a.LastOffset <= a.FirstOffset {
		return a, fmt.Errorf("transaction index row from offset %d to %d", a.FirstOffset, a.LastOffset)
	}
	return a, nil
}
