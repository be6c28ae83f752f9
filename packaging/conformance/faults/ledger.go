package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// violationsMax bounds what is kept of what went wrong.
const violationsMax = 50

// Ack is one acknowledged write.
type Ack struct {
	Sent, Acked time.Time
	Zxid        int64
}

// Created is a child whose creation was acknowledged.
type Created struct {
	Path string
	Ack
}

// Account is what one session has written into its own node, and below the round's. Each write has a number of its own
// and asks for the version of the last one that is known, so that of all those without an answer at most one can happen.
type Account struct {
	Index int
	Path  string

	mu      sync.Mutex // protects what follows
	number  int        // of the last write that was tried
	value   int        // of the last that is known to have happened
	version int32
	zxid    int64 // of that, where the answer told it
	doubts  []int // tried since, without an answer
	acks    []Ack
	created []Created
	tried   []string // names of children that were tried, without an answer
}

// Ledger is what was acknowledged, and what went wrong.
type Ledger struct {
	Accounts []*Account

	mu         sync.Mutex // protects what follows
	violations []string
	lost       int // acknowledged writes that are missing or changed, doubled ones, old answers
	wrong      int // sessions that expired though their client was heard
	silent     int // that expired because it was not
}

// NewLedger makes one with an account for each session.
func NewLedger(sessions int) *Ledger {
	l := &Ledger{}
	for i := range sessions {
		l.Accounts = append(l.Accounts, &Account{Index: i, Path: fmt.Sprintf("%s/s%02d", root, i)})
	}
	return l
}

// Lost notes a write that is not as it was acknowledged.
func (l *Ledger) Lost(format string, args ...any) { l.note(&l.lost, format, args...) }

// Expired notes the end of a session whose client had had no answer for so long.
func (l *Ledger) Expired(session int64, timeout, silent time.Duration) {
	if silent >= timeout {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.silent++
		return
	}
	l.note(&l.wrong, "session 0x%x of %v has expired %v after its client was answered", session, timeout, silent.Round(time.Millisecond))
}

func (l *Ledger) note(count *int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*count++
	if len(l.violations) < violationsMax {
		l.violations = append(l.violations, fmt.Sprintf(format, args...))
	}
}

// Take gives what went wrong since it was asked last.
func (l *Ledger) Take() (lost, wrong, silent int, violations []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, wrong, silent, violations = l.lost, l.wrong, l.silent, l.violations
	l.lost, l.wrong, l.silent, l.violations = 0, 0, 0, nil
	return lost, wrong, silent, violations
}

// Begin forgets the acknowledgements of the last round; what the nodes must hold stays.
func (l *Ledger) Begin() {
	for _, a := range l.Accounts {
		a.mu.Lock()
		a.acks, a.created, a.tried = nil, nil, nil
		a.mu.Unlock()
	}
}

// attempt gives the number and the version for the next write.
func (a *Account) attempt() (number int, version int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	a.doubts = append(a.doubts, a.number)
	return a.number, a.version
}

// acked notes that the write happened. It says what is wrong with the answer.
func (a *Account) acked(number int, version int32, ack Ack) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acks = append(a.acks, ack)
	var err error
	if version != a.version+1 || ack.Zxid <= a.zxid {
		err = fmt.Errorf("%s: write %d was acknowledged as version %d with zxid %d, the one before was version %d with zxid %d",
			a.Path, number, version, ack.Zxid, a.version, a.zxid)
	}
	a.value, a.version, a.zxid, a.doubts = number, version, ack.Zxid, nil
	return err
}

// found compares what a read behind a sync has shown with what is known, and learns from it. There must be no write under
// way. An error is a write that is lost, doubled or of nobody.
func (a *Account) found(number int, version int32, mzxid int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case number == a.value && version == a.version && (a.zxid == 0 || mzxid == a.zxid):
		return nil
	case slices.Contains(a.doubts, number) && version == a.version+1 && mzxid > a.zxid:
		a.value, a.version, a.zxid, a.doubts = number, version, mzxid, nil
		return nil
	}
	return fmt.Errorf("%s holds write %d as version %d with zxid %d; acknowledged is write %d as version %d with zxid %d, in doubt are %v",
		a.Path, number, version, mzxid, a.value, a.version, a.zxid, a.doubts)
}

// floor is the number that a read must show at least.
func (a *Account) floor() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.value
}

func (a *Account) create(name string, path string, ack *Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ack == nil {
		a.tried = append(a.tried, name)
		return
	}
	a.acks = append(a.acks, *ack)
	a.created = append(a.created, Created{path, *ack})
}

// Measure is what a round has shown.
type Measure struct {
	// First is the time from the fault to the first acknowledgement of a write that was sent after it; 0 when there is none.
	First time.Duration
	// Gaps are, for each session, the longest time between two acknowledgements around or after the fault, rising.
	Gaps []time.Duration
	Acks int
}

// Measure judges the acknowledgements of the round.
func (l *Ledger) Measure(fault time.Time) Measure {
	var m Measure
	for _, a := range l.Accounts {
		a.mu.Lock()
		acks := slices.Clone(a.acks)
		a.mu.Unlock()
		m.Acks += len(acks)
		var longest time.Duration
		for i, ack := range acks {
			after := ack.Acked.Sub(fault)
			if !ack.Sent.Before(fault) && (m.First == 0 || after < m.First) {
				m.First = after
			}
			if i > 0 && after > 0 {
				longest = max(longest, ack.Acked.Sub(acks[i-1].Acked))
			}
		}
		m.Gaps = append(m.Gaps, longest)
	}
	slices.Sort(m.Gaps)
	return m
}

// checkOrder judges all children of a round by their zxids: what was acknowledged before another was sent is older. It
// also finds a zxid that was given twice.
func checkOrder(created []Created) error {
	slices.SortFunc(created, func(a, b Created) int { return int(a.Zxid - b.Zxid) })
	for i := range created {
		if i > 0 && created[i].Zxid == created[i-1].Zxid {
			return fmt.Errorf("%s and %s were created with the same zxid %d", created[i-1].Path, created[i].Path, created[i].Zxid)
		}
	}
	var earliest Created // acknowledged first of those with greater zxids
	for _, c := range slices.Backward(created) {
		if earliest.Path != "" && earliest.Acked.Before(c.Sent) {
			return fmt.Errorf("%s was acknowledged with zxid %d before %s was sent, which has the older zxid %d", earliest.Path, earliest.Zxid, c.Path, c.Zxid)
		}
		if earliest.Path == "" || c.Acked.Before(earliest.Acked) {
			earliest = c
		}
	}
	return nil
}
