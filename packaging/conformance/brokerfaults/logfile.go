package main

import (
	"bytes"
	"errors"
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

// readLog reads all segments of a partition's directory, one behind the other. Offsets must follow each other, without a gap
// unless the log is compacted.
func readLog(box int, dir string, compacted bool) (*Log, error) {
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
			if batch.Base < l.End() || batch.Base > l.End() && !compacted {
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

// differCompacted says where two logs part of which each box compacts its own, as in Kafka: "" when they end at one offset
// and the last record of each key is the same. One without a value may be gone by now.
func differCompacted(a, b *Log) string {
	if a.End() != b.End() {
		return fmt.Sprintf("box %d ends at %d, box %d at %d", a.Box, a.End(), b.Box, b.End())
	}
	x, err := a.last()
	y, other := b.last()
	if err = errors.Join(err, other); err != nil {
		return err.Error()
	}
	for key, offset := range x {
		if there, ok := y[key]; !ok || there != offset {
			return fmt.Sprintf("key %q is last at offset %s of box %d, and at %s (%t) of box %d", key, offset, a.Box, there, ok, b.Box)
		}
	}
	if len(x) != len(y) {
		return fmt.Sprintf("box %d has %d keys, box %d %d", a.Box, len(x), b.Box, len(y))
	}
	return ""
}

// last is the offset of the last record of each key and its value, as one text.
func (l *Log) last() (map[string]string, error) {
	last := map[string]string{}
	for _, b := range l.Batches {
		err := b.records(func(offset int64, key, value []byte) {
			if value == nil {
				delete(last, string(key))
				return
			}
			last[string(key)] = fmt.Sprintf("%d, %x", offset, value)
		})
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// String says which batch it is.
func (b Batch) String() string {
	return fmt.Sprintf("offsets %d to %d of epoch %d in %d bytes with CRC %x", b.Base, b.Last, b.Epoch, len(b.Bytes), b.Bytes[batchCRCAt:batchBodyAt])
}
