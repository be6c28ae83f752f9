package compact

import (
	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
)

// transactions follows the transactions of a log while its batches are walked in order (CleanedTransactionMetadata): which
// records were aborted, and which markers end nothing any more.
type transactions struct {
	aborted   []seglog.AbortedTxn // still to come, by first offset
	aborting  map[int64]*aborting // by producer: transactions that are being walked through and were aborted
	committed map[int64]bool      // producers with a transaction that is walked through, was not aborted, and has batches
	row       *seglog.AbortedTxn  // of the last marker, where its transaction still has batches
}

type aborting struct {
	txn  seglog.AbortedTxn
	seen bool // a batch of it is there
}

// newTransactions takes the aborted transactions, by first offset.
func newTransactions(aborted []seglog.AbortedTxn) *transactions {
	return &transactions{aborted: aborted, aborting: map[int64]*aborting{}, committed: map[int64]bool{}}
}

func (t *transactions) upTo(offset int64) {
	for len(t.aborted) > 0 && t.aborted[0].FirstOffset <= offset {
		t.aborting[t.aborted[0].ProducerID] = &aborting{txn: t.aborted[0]}
		t.aborted = t.aborted[1:]
	}
}

// data notes a data batch and reports whether it was aborted: its records go.
func (t *transactions) data(h *batch.Header) bool {
	t.upTo(h.LastOffset())
	if !h.Attributes.Transactional() {
		return false
	}
	if a := t.aborting[h.ProducerID]; a != nil {
		a.seen = true
		return true
	}
	t.committed[h.ProducerID] = true
	return false
}

// control notes a control batch and reports whether it ends a transaction of which nothing is left: it may go, in time. One that
// is no marker stays for ever. whole are its bytes.
func (t *transactions) control(h *batch.Header, whole []byte) bool {
	t.upTo(h.LastOffset())
	t.row = nil
	if h.Count == 0 {
		return true // its record went before
	}
	m, err := batch.ReadMarker(h, whole)
	if err != nil {
		return false
	}
	switch m.Type {
	case batch.Abort:
		a := t.aborting[h.ProducerID]
		delete(t.aborting, h.ProducerID)
		if a != nil && a.seen {
			t.row = &a.txn
			return false
		}
		return true
	case batch.Commit:
		had := t.committed[h.ProducerID]
		delete(t.committed, h.ProducerID)
		return !had
	}
	return false
}
