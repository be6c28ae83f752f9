package zkserver

import (
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// request is what is kept of a request until it is answered.
type request struct {
	xid    int32
	op     jute.OpCode
	size   int // of the frame, in bytes
	large  int // of Server.largeRequests
	began  time.Duration
	access *znode.Access

	path   string
	watch  bool
	kind   int32 // a WatcherType or an addWatch mode
	rearm  *jute.SetWatches2Request
	ops    []jute.Op // of a multiRead
	failed jute.Code // the request could not be decoded, or is answered without looking at the tree
}

// slotState says what a slot waits for.
type slotState uint8

const (
	// slotAsked: the ensemble was asked, and will say.
	slotAsked slotState = iota
	// slotParked: a read that waits until everything before it is answered.
	slotParked
	// slotAnswered: the answer is there and is sent when everything before it is.
	slotAnswered
)

// slot is one request of a connection's pipeline.
type slot struct {
	request
	c       *conn
	state   slotState
	frame   []byte // that the entry refers to until the ensemble is done with it
	weight  int64  // in the gate
	held    int64  // of Server.parked: a parked read's frame, which its decoded form is a few times of
	outcome znode.Outcome
	// err ends the connection instead of an answer.
	err error
	// body and noZxid are of answers that the tree has no part in (auth, sasl).
	body   []byte
	noZxid bool
	last   bool // the connection is closed after it
	// fresh: a read index is what it waits for; then it is answered from the tree.
	fresh bool
}

// queue is the FIFO of a connection's unanswered requests. Requests that are answered at once never enter it.
type queue struct {
	slots []*slot
	head  int
	fresh int // slots that wait, or waited, for a read index
}

func (q *queue) len() int { return len(q.slots) - q.head }

func (q *queue) first() *slot {
	if q.len() == 0 {
		return nil
	}
	return q.slots[q.head]
}

func (q *queue) push(s *slot) {
	if q.head > 0 && len(q.slots) == cap(q.slots) { // make room at the front before growing
		n := copy(q.slots, q.slots[q.head:])
		clear(q.slots[n:])
		q.slots, q.head = q.slots[:n], 0
	}
	q.slots = append(q.slots, s)
	if s.fresh {
		q.fresh++
	}
}

func (q *queue) pop() {
	if q.slots[q.head].fresh {
		q.fresh--
	}
	q.slots[q.head] = nil
	q.head++
	if q.head == len(q.slots) {
		q.slots, q.head = q.slots[:0], 0
	}
}

// ready tells whether the first request can be answered by whoever holds the ensemble's lock.
func (q *queue) ready() bool {
	s := q.first()
	return s != nil && s.state != slotAsked
}

// prove lets everything up to the first write be answered that waits for a read index.
func (q *queue) prove() {
	for _, s := range q.slots[q.head:] {
		if s.state == slotAsked && !s.fresh {
			return
		}
		if s.state == slotAsked {
			s.state = slotParked
		}
	}
}
