package seglog

import (
	"errors"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// DumpLog calls f for each batch of a .log file: its position, its header, and what is wrong with its CRC (nil if nothing). It
// returns the position at which whole batches end, which is the file's size if nothing is damaged. It needs no Dir and changes nothing.
func DumpLog(file vfs.File, f func(position int64, h *batch.Header, invalid error) error) (end int64, err error) {
	size, err := file.Size()
	if err != nil {
		return 0, err
	}
	r := newBatchReader(file, 0, size, make([]byte, scanSize))
	for {
		ok, err := r.next()
		if errors.Is(err, errDamaged) {
			return r.pos, nil
		}
		if err != nil || !ok {
			return r.pos, err
		}
		invalid := r.verify()
		if invalid != nil && !errors.Is(invalid, errDamaged) {
			return r.pos, invalid
		}
		header := r.h
		if err := f(r.pos, &header, invalid); err != nil {
			return r.pos, err
		}
	}
}

// DumpIndex calls f for each entry of an .index file whose segment begins at base.
func DumpIndex(file vfs.File, base int64, f func(offset, position int64) error) error {
	n, err := entries(file, indexEntrySize)
	for i := int64(0); err == nil && i < n; i++ {
		var e indexEntry
		if e, err = readIndexEntry(file, i); err == nil {
			err = f(base+int64(e.relative), int64(e.position))
		}
	}
	return err
}

// DumpTimeIndex calls f for each entry of a .timeindex file whose segment begins at base.
func DumpTimeIndex(file vfs.File, base int64, f func(timestamp, offset int64) error) error {
	n, err := entries(file, timeEntrySize)
	for i := int64(0); err == nil && i < n; i++ {
		var e timeEntry
		if e, err = readTimeEntry(file, base, i); err == nil {
			err = f(e.timestamp, e.offset)
		}
	}
	return err
}

// DumpTxnIndex calls f for each row of a .txnindex file.
func DumpTxnIndex(file vfs.File, f func(AbortedTxn) error) error {
	n, err := entries(file, abortedSize)
	for i := int64(0); err == nil && i < n; i++ {
		var a AbortedTxn
		if a, err = readAborted(file, i); err == nil {
			err = f(a)
		}
	}
	return err
}

// BaseOffset reads the base offset in the name of a segment's file, such as 00000000000000000042.log.
func BaseOffset(name string) (int64, bool) {
	base, _, ok := parseOffsetName(name)
	return base, ok
}
