package raftlog

import (
	"bytes"
	"fmt"
)

// replay turns the records back into what they say: entries, where a later one with an index that is already there cuts
// off everything from it on, and the newest of everything else.
type replay struct {
	entries   []Entry // contiguous
	base      uint64  // index before the first of entries; 0 when nothing is known
	hardState HardState
	confState ConfState // that the log began with
	marker    SnapshotID
	records   uint64
	// floating: the log's front was dropped, and base is that of a marker with nothing but markers before it. Entries that
	// lie behind the marker's snapshot may have stood in what was dropped: the next entry says where the log begins.
	floating bool
	fronted  bool // the log begins with record 1
	// unmarked: the snapshot that was restored replaces the log, and no marker says so.
	unmarked bool
}

// add takes one record. The payload is copied: the segment's bytes are let go of.
func (r *replay) add(f frame) error {
	if r.records++; r.records == 1 {
		r.fronted = f.seq == 1
	}
	switch f.kind {
	case kindEntry:
		return r.addEntry(f)
	case kindHardState:
		if len(f.payload) != 8 {
			return fmt.Errorf("a hard state of %d bytes", len(f.payload))
		}
		vote := uint64(0)
		for _, b := range f.payload {
			vote = vote<<8 | uint64(b)
		}
		r.hardState = HardState{Term: f.term, Vote: vote, Commit: f.index}
	case kindConfState:
		c, err := decodeConfState(f.payload)
		if err != nil {
			return err
		}
		r.confState = c
	case kindMarker:
		r.addMarker(SnapshotID{Index: f.index, Term: f.term})
	}
	return nil
}

func (r *replay) addEntry(f frame) error {
	if f.index == 0 {
		return fmt.Errorf("an entry with index 0")
	}
	if len(r.entries) == 0 && (r.base == 0 || r.floating && f.index > r.base) {
		r.base = f.index - 1
	}
	r.floating = false
	last := r.base + uint64(len(r.entries))
	switch {
	case f.index > last+1:
		return fmt.Errorf("entry %d follows entry %d", f.index, last)
	case f.index <= r.base:
		// Older than anything kept: everything kept is overwritten.
		r.entries, r.base = r.entries[:0], f.index-1
	default:
		r.entries = r.entries[:f.index-r.base-1]
	}
	e := Entry{Index: f.index, Term: f.term, Type: f.sub, Data: bytes.Clone(f.payload)}
	r.entries = append(r.entries, e)
	return nil
}

// addMarker notes a durable snapshot. One that lies beyond the log, or disagrees with it, replaced the log.
func (r *replay) addMarker(m SnapshotID) {
	if m.Index >= r.marker.Index {
		r.marker = m
	}
	if r.replacedBy(m) {
		r.floating = r.floating || r.base == 0 && len(r.entries) == 0 && !r.fronted
		r.entries, r.base = r.entries[:0], m.Index
	}
}

// replacedBy tells whether a snapshot lies beyond the log, or ends with another entry than the log has at its index.
func (r *replay) replacedBy(s SnapshotID) bool {
	at := s.Index - r.base - 1
	return s.Index > r.base && (at >= uint64(len(r.entries)) || r.entries[at].Term != s.Term)
}

// after returns the entries behind index, and whether the log covers everything behind it.
func (r *replay) after(index uint64) ([]Entry, bool) {
	last := r.base + uint64(len(r.entries))
	switch {
	case r.base > index || r.hardState.Commit > max(index, last):
		return nil, false
	case last <= index:
		return nil, true
	}
	return r.entries[index-r.base:], true
}
