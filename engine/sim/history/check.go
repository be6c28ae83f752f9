package history

import (
	"slices"
	"time"
)

// Options say what a check may take and what it must allow for.
type Options struct {
	// Patience is how long the search for a linearization of one register may take; 20 s when it is 0. A register that
	// takes longer is reported as undecided, which is a Violation too: the test then says nothing.
	Patience time.Duration
	// ExpirySlack is how much earlier than its timeout after the last answered request a session may be found expired: the
	// time for which a box that lost its leader still answers, and the interval at which it reports who was heard.
	ExpirySlack time.Duration
}

// Violation is a rule that was broken.
type Violation struct {
	// Rule is its name: linearizability, zxids, reads, fifo, sequence, lock, watch, session, final.
	Rule string
	// Text tells what is wrong, and the operations and events involved, in their order, one a line.
	Text string
}

// String is the violation as it is printed.
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// Check judges a history by every rule but Final's.
func Check(h *History, o Options) []Violation {
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	x := newIndex(h)
	return slices.Concat(
		checkLinearizable(x, o.Patience), checkZxids(h), checkReads(x), checkFIFO(x), checkSequences(h), checkLocks(x),
		checkWatches(x), checkSessions(x, o.ExpirySlack),
	)
}
