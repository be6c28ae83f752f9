package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"sync"
)

// What the ledger knows of a record that has no acknowledged offset.
const (
	inDoubt = -1 // handed to a producer that still tries
	gaveUp  = -2 // its producer was closed: it may be there, once, or not
)

// partitionLedger is what one partition owes.
type partitionLedger struct {
	offsets   []int64 // by record number: acknowledged offset, inDoubt or gaveUp
	end       int64   // offset after the last acknowledged record
	seen      int64   // offset after the last record that a consumer was given
	committed int64   // highest offset of an acknowledged commit; -1: none
	attempted int64   // highest offset of any commit that was tried; -1: none
}

// Ledger is what was acknowledged, by whom it was seen, and what went wrong. All clients write to it.
type Ledger struct {
	mu         sync.Mutex // protects all below; nothing is called while it is held but the file's buffer
	partitions []partitionLedger
	faults     []string
	file       *os.File
	out        *bufio.Writer
	totals     Totals
}

// Totals are what was acknowledged so far.
type Totals struct {
	Records int
	Bytes   int64 // of the records' values
	Commits int   // of one partition's offset
}

// faultsMax bounds the faults that are kept and printed: one lost segment makes a million of them.
const faultsMax = 50

// NewLedger makes a ledger that writes what is acknowledged to a new file, one line each: "record PARTITION NUMBER OFFSET",
// "commit PARTITION OFFSET", "znode PATH VERSION" (-1: deleted), and "kill ROUND" between them.
func NewLedger(path string, partitions int) (*Ledger, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l := &Ledger{partitions: make([]partitionLedger, partitions), file: f, out: bufio.NewWriterSize(f, 1<<20)}
	for i := range l.partitions {
		l.partitions[i].committed, l.partitions[i].attempted = -1, -1
	}
	return l, nil
}

// Next gives the number of the partition's next record.
func (l *Ledger) Next(partition int32) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.partitions[partition]
	p.offsets = append(p.offsets, inDoubt)
	return len(p.offsets) - 1
}

// Acked notes that the record was acknowledged at an offset.
func (l *Ledger) Acked(partition int32, number int, offset int64, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.partitions[partition]
	if before := p.offsets[number]; before != inDoubt {
		l.fault("partition %d: record %d was acknowledged at %d, though it was %d before", partition, number, offset, before)
	}
	if offset < p.end {
		l.fault("partition %d: record %d was acknowledged at %d, an earlier one at %d", partition, number, offset, p.end-1)
	}
	p.offsets[number] = offset
	p.end = max(p.end, offset+1)
	l.totals.Records++
	l.totals.Bytes += int64(size)
	fmt.Fprintf(l.out, "record %d %d %d\n", partition, number, offset)
}

// GaveUp notes that nobody tries the record any more.
func (l *Ledger) GaveUp(partition int32, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions[partition].offsets[number] = gaveUp
}

// Status is the acknowledged offset of a record, or inDoubt or gaveUp. ok is false if the record was never made.
func (l *Ledger) Status(partition int32, number int) (offset int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offsets := l.partitions[partition].offsets
	if number < 0 || number >= len(offsets) {
		return 0, false
	}
	return offsets[number], true
}

// Seen notes that a consumer was given the record before the offset.
func (l *Ledger) Seen(partition int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions[partition].seen = max(l.partitions[partition].seen, end)
}

// Attempt notes that a commit of the offset is under way.
func (l *Ledger) Attempt(partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.partitions[partition]
	if offset < p.committed {
		l.fault("partition %d: the group was sent back to %d, behind its acknowledged commit of %d", partition, offset, p.committed)
	}
	p.attempted = max(p.attempted, offset)
}

// Committed notes an acknowledged commit.
func (l *Ledger) Committed(partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.partitions[partition]
	p.committed = max(p.committed, offset)
	l.totals.Commits++
	fmt.Fprintf(l.out, "commit %d %d\n", partition, offset)
}

// Znode notes an acknowledged version of a znode, -1 for its deletion. The state itself is its Writer's.
func (l *Ledger) Znode(path string, version int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "znode %s %d\n", path, version)
}

// owed is what a check compares with, of one partition.
type owed struct{ end, seen, committed, attempted int64 }

// Owed returns what every partition owes now.
func (l *Ledger) Owed() []owed {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]owed, len(l.partitions))
	for i := range l.partitions {
		p := &l.partitions[i]
		all[i] = owed{end: p.end, seen: p.seen, committed: p.committed, attempted: p.attempted}
	}
	return all
}

// Offsets returns a copy of what is known of every record of a partition, by number.
func (l *Ledger) Offsets(partition int32) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.partitions[partition].offsets)
}

// Totals returns what was acknowledged so far.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// Fault notes something that must not be.
func (l *Ledger) Fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault(format, args...)
}

func (l *Ledger) fault(format string, args ...any) {
	if len(l.faults) < faultsMax {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// TakeFaults returns the faults since the last call.
func (l *Ledger) TakeFaults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	faults := l.faults
	l.faults = nil
	return faults
}

// Kill marks a kill in the file and writes the file out.
func (l *Ledger) Kill(round int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "kill %d\n", round)
	return l.out.Flush()
}

// Close writes the file out and closes it.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Flush(); err != nil {
		return err
	}
	return l.file.Close()
}
