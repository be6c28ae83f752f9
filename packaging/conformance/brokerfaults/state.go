package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// What a run keeps in its directory beside the boxes' data, so that another one goes on where it has ended:
//
//	state.json   State, written beside and renamed after each round
//	java-acked   what the Java producers had acknowledged (java.go)
//	acked        one entry for each acknowledgement: place int32, key int32, number int64, offset int64
const (
	stateName  = "state.json"
	ackedName  = "acked"
	ackedBytes = 24
	skipAfter  = 1 << 20 // numbers of a key that a run leaves out after one that was killed: what it made is in doubt
)

// State is where a run stands.
type State struct {
	Seed   uint64
	Rounds int // that were judged
	Octet  int // of the network: the boxes keep their addresses
	// JavaRuns counts the runs: each begins the values of its Java producers with its own number.
	JavaRuns int
	Shape    Shape
	Made     []int64
	Doubts   [][]span
	Probe    int64
	Ends     []int64              // by place: every group has seen what is below
	Floors   [groupsCount][]int64 // acknowledged commits
	Clean    bool                 // nothing was made or acknowledged since
}

// Shape is how much load there is. It stays the same for all chunks of a run.
type Shape struct {
	Topics, Partitions int // Partitions of each topic
	Keys               int // of all producers
	DiskMB             int // of each box's own file system; 0: it has none
	Java               int // producers of Kafka's own client, each with a topic
}

// Journal is the file of acknowledgements.
type Journal struct {
	dir  string
	file *os.File
	out  *bufio.Writer
}

// loadState reads what an earlier run has left. ok is false when there was none.
func loadState(dir string) (s State, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, os.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err == nil, err
}

// restore fills a new ledger from a state and the acknowledgements beside it.
func (l *Ledger) restore(dir string, s *State) error {
	copy(l.made, s.Made)
	copy(l.doubts, s.Doubts)
	l.probe = s.Probe
	for g := range l.seats {
		for p := range l.seats[g] {
			l.seats[g][p] = seat{from: s.Ends[p], committed: s.Floors[g][p]}
		}
	}
	f, err := os.Open(filepath.Join(dir, ackedName))
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for {
		var b [ackedBytes]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			return err
		}
		l.keep(Ack{
			int32(binary.BigEndian.Uint32(b[0:])), ID{int32(binary.BigEndian.Uint32(b[4:])), int64(binary.BigEndian.Uint64(b[8:]))},
			int64(binary.BigEndian.Uint64(b[16:])),
		})
	}
	if !s.Clean {
		l.doubt()
	}
	return nil
}

// doubt leaves out numbers of each key: those that a killed run has made since its state was written.
func (l *Ledger) doubt() {
	for key := range l.made {
		l.doubts[key] = append(l.doubts[key], span{l.made[key] + 1, l.made[key] + 1 + skipAfter})
		l.made[key] += skipAfter
	}
	l.probe += skipAfter
}

// openJournal goes on with the file of acknowledgements and lets the ledger write into it.
func openJournal(dir string, l *Ledger) (*Journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, ackedName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, file: f, out: bufio.NewWriter(f)}
	l.save = func(a Ack) {
		b := binary.BigEndian.AppendUint32(j.out.AvailableBuffer(), uint32(a.Place))
		b = binary.BigEndian.AppendUint32(b, uint32(a.ID.Key))
		b = binary.BigEndian.AppendUint64(b, uint64(a.ID.Number))
		b = binary.BigEndian.AppendUint64(b, uint64(a.Offset))
		_, _ = j.out.Write(b) // an error comes again with the flush
	}
	return j, nil
}

// Save writes the state. The ledger must be at rest if clean is told.
func (j *Journal) Save(s State, l *Ledger, ends []int64, clean bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Made, s.Doubts, s.Probe, s.Clean, s.Ends = l.made, l.doubts, l.probe, clean, ends
	for g := range l.seats {
		s.Floors[g] = make([]int64, len(l.Places))
		for p := range l.seats[g] {
			s.Floors[g][p] = l.seats[g][p].committed
		}
	}
	if err := j.out.Flush(); err != nil {
		return fmt.Errorf("write what was acknowledged: %w", err)
	}
	b, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	name := filepath.Join(j.dir, stateName)
	if err := os.WriteFile(name+".tmp", b, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// Close closes the file.
func (j *Journal) Close() error { return errors.Join(j.out.Flush(), j.file.Close()) }
