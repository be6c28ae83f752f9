package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Log is a replica's log, as its files say it.
type Log struct {
	Box     int
	Batches []Batch
	Files   int
}

// End is the offset after the last record.
func (l *Log) End() int64 {
	if len(l.Batches) == 0 {
		return 0
	}
	return l.Batches[len(l.Batches)-1].Last + 1
}

// readLog reads all segments of a partition's directory, one behind the other. Offsets must follow each other without a gap.
func readLog(box int, dir string) (*Log, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	l := &Log{Box: box, Files: len(names)}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		size := len(b)
		for len(b) > 0 {
			at := size - len(b)
			batch, rest, err := nextBatch(b)
			if err != nil {
				return l, fmt.Errorf("%s at %d: %w", name, at, err)
			}
			if batch.Base != l.End() {
				return l, fmt.Errorf("%s at %d: offset %d follows %d", name, at, batch.Base, l.End()-1)
			}
			l.Batches, b = append(l.Batches, batch), rest
		}
	}
	return l, nil
}

// differ says where two logs part first; "" when they do not. All bytes of a batch count, also those outside its CRC.
func differ(a, b *Log) string {
	for i := range min(len(a.Batches), len(b.Batches)) {
		x, y := a.Batches[i], b.Batches[i]
		if !bytes.Equal(x.Bytes, y.Bytes) {
			return fmt.Sprintf("box %d has %s, box %d has %s", a.Box, x, b.Box, y)
		}
	}
	if a.End() != b.End() {
		return fmt.Sprintf("box %d ends at %d, box %d at %d", a.Box, a.End(), b.Box, b.End())
	}
	return ""
}

// String says which batch it is.
func (b Batch) String() string {
	return fmt.Sprintf("offsets %d to %d of epoch %d in %d bytes with CRC %x", b.Base, b.Last, b.Epoch, len(b.Bytes), b.Bytes[batchCRCAt:batchBodyAt])
}
