package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestPayload(t *testing.T) {
	for _, size := range []int{payloadHeadBytes, payloadHeadBytes + 1, 100, 1000} {
		value := payload(3, 77, size)
		if number, err := readPayload(3, value); number != 77 || err != nil || len(value) != size {
			t.Fatalf("size %d: number %d, error %v", size, number, err)
		}
		if _, err := readPayload(4, value); err == nil {
			t.Fatal("another partition's value passed")
		}
		value[size-1] ^= 1
		if _, err := readPayload(3, value); err == nil {
			t.Fatalf("size %d: a changed byte passed", size)
		}
	}
	if _, err := readPayload(0, nil); err == nil {
		t.Fatal("an empty value passed")
	}
}

func newLedger(t *testing.T) *Ledger {
	l, err := NewLedger(filepath.Join(t.TempDir(), "acknowledged"), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// read gives a reader a log, the number of the record at each offset from 0, and returns what it finds wrong.
func read(ledger *Ledger, numbers ...int) []string {
	r := NewReader(0)
	for offset, number := range numbers {
		r.take(&kgo.Record{Offset: int64(offset), Value: payload(0, number, 64)}, ledger)
	}
	r.settle(ledger)
	return ledger.TakeFaults()
}

func TestReaderFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name    string
		acked   map[int]int64 // number: offset
		gaveUp  []int
		made    int
		numbers []int
		want    string // part of the first fault; empty: none
	}{
		{"whole", map[int]int64{0: 0, 1: 1, 2: 2}, nil, 3, []int{0, 1, 2}, ""},
		{"given up, not there", map[int]int64{0: 0, 2: 1}, []int{1}, 3, []int{0, 2}, ""},
		{"given up, there", map[int]int64{0: 0, 2: 2}, []int{1}, 3, []int{0, 1, 2}, ""},
		{"lost at the end", map[int]int64{0: 0, 1: 1}, nil, 2, []int{0}, "record 1 was acknowledged at offset 1 and found at -1"},
		{"lost in the middle", map[int]int64{0: 0, 1: 1, 2: 2}, nil, 3, []int{0, 2}, "record 2 is at offset 1, acknowledged was 2"},
		{"duplicate", map[int]int64{0: 0, 1: 1}, nil, 2, []int{0, 1, 1}, "a duplicate"},
		{"out of order", map[int]int64{0: 0}, []int{1, 2}, 3, []int{0, 2, 1}, "out of order"},
		{"never made", map[int]int64{0: 0}, nil, 1, []int{0, 7}, "never made"},
		{"still in doubt at the end", map[int]int64{0: 0}, nil, 2, []int{0}, "neither acknowledged nor there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(t)
			for range c.made {
				l.Next(0)
			}
			for number := range c.made {
				if offset, ok := c.acked[number]; ok {
					l.Acked(0, number, offset, 64)
				} else if slices.Contains(c.gaveUp, number) {
					l.GaveUp(0, number)
				}
			}
			faults := read(l, c.numbers...)
			if c.want == "" && len(faults) > 0 || c.want != "" && (len(faults) == 0 || !strings.Contains(faults[0]+strings.Join(faults, ""), c.want)) {
				t.Fatalf("faults %q, want %q", faults, c.want)
			}
		})
	}
}

func TestReaderFindsAGapOfOffsets(t *testing.T) {
	l := newLedger(t)
	l.Next(0)
	r := NewReader(0)
	r.take(&kgo.Record{Offset: 3, Value: payload(0, 0, 64)}, l)
	if faults := l.TakeFaults(); len(faults) != 1 {
		t.Fatalf("faults %q", faults)
	}
}

func TestLedgerFindsAcknowledgementsThatGoBack(t *testing.T) {
	l := newLedger(t)
	l.Next(0)
	l.Next(0)
	l.Acked(0, 0, 5, 10)
	l.Acked(0, 1, 4, 10)
	l.Attempt(0, 3)
	l.Committed(0, 3)
	l.Attempt(0, 2)
	if faults := l.TakeFaults(); len(faults) != 2 {
		t.Fatalf("faults %q, want two", faults)
	}
	if owes := l.Owed()[0]; owes.end != 6 || owes.committed != 3 || owes.attempted != 3 {
		t.Fatalf("owed %+v", owes)
	}
}

func TestZnodesAreCompared(t *testing.T) {
	a := znode{exists: true, version: 2, data: []byte("x")}
	for _, other := range []znode{{}, {exists: true, version: 3, data: []byte("x")}, {exists: true, version: 2, data: []byte("y")}} {
		if a.equal(other) || other.equal(a) {
			t.Errorf("%v equals %v", a, other)
		}
	}
	if !a.equal(a) || !(znode{}).equal(znode{version: 9}) {
		t.Error("equal znodes differ")
	}
}
