package compact

import (
	"cairn/engine/broker/batch"
)

// Last is what a partition knows of an active producer: the offset of its last record, -1 for one that is known by a marker
// alone, and its epoch.
type Last struct {
	Offset int64
	Epoch  int16
}

// rules decide what stays of a log (Cleaner.cleanInto, MemoryRecords.filterTo).
type rules struct {
	latest    *OffsetMap
	end       int64 // the map knows the records before this offset
	producers map[int64]Last
	txns      *transactions
	now       Time
	horizon   int64 // what tombstones that are first kept now are given, in ms since 1970
}

// fate is what becomes of a batch.
type fate struct {
	// drop says that no record stays; then empty says that the batch does.
	drop, empty bool
	// marker says that it is a marker that ends nothing any more, and gets a horizon if it has none.
	marker bool
}

// batch decides about a batch as a whole; whole are its bytes.
func (r *rules) batch(h *batch.Header, whole []byte) fate {
	var f fate
	if h.Attributes.Control() {
		f.marker = r.txns.control(h, whole)
		f.drop = f.marker && r.past(h) || h.Count == 0
	} else {
		f.drop = r.txns.data(h) || h.Count == 0
	}
	f.empty = r.lastOfProducer(h)
	return f
}

// past reports whether the batch's horizon is.
func (r *rules) past(h *batch.Header) bool {
	return h.Attributes.DeleteHorizon() && r.now.Good && r.now.Ms >= h.BaseTimestamp
}

// lastOfProducer reports whether the batch is all that tells where an active producer stands: its last records, or the
// marker that has its epoch.
func (r *rules) lastOfProducer(h *batch.Header) bool {
	if !h.HasProducerID() {
		return false
	}
	last, active := r.producers[h.ProducerID]
	switch {
	case !active:
		return false
	case last.Offset >= 0:
		return last.Offset == h.LastOffset()
	}
	return h.Attributes.Control() && h.ProducerEpoch == last.Epoch
}

// record decides about a record of a data batch.
func (r *rules) record(h *batch.Header, rec *batch.Record) bool {
	offset := h.BaseOffset + int64(rec.OffsetDelta)
	switch {
	case offset >= r.end:
		return true
	case rec.Key == nil:
		return false
	case offset < r.latest.Get(rec.Key):
		return false
	}
	return rec.Value != nil || !r.past(h)
}

// dates reports whether a batch that keeps a tombstone, or is a marker that ends nothing, is given its horizon now.
func (r *rules) dates(h *batch.Header) bool {
	return r.now.Good && !h.Attributes.DeleteHorizon()
}
