package partition

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"cairn/engine/broker/batch"
)

// Errors of the rules for producers. The server maps them to Kafka's codes of the same names.
var (
	// ErrOutOfOrderSequence means that the batch does not follow the producer's last one (KIP-98).
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidProducerEpoch means that a newer incarnation of the producer has written here.
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	// ErrInvalidTxnState means that a plain batch came amid the producer's transaction.
	ErrInvalidTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced means that a transaction marker came from a coordinator that has been replaced.
	ErrCoordinatorFenced = errors.New("transaction coordinator fenced")
)

// retainedBatches is how many of a producer's last batches are remembered, so that a retry of any of them is known
// (ProducerStateEntry.NUM_BATCHES_TO_RETAIN). Producers may have five requests in flight.
const retainedBatches = 5

// noOffset means that there is no such offset.
const noOffset = int64(-1)

// Batch is what is remembered of an appended batch.
type Batch struct {
	LastSequence int32
	LastOffset   int64
	OffsetDelta  int32 // last offset minus base offset
	Timestamp    int64 // max timestamp, milliseconds
}

// BaseOffset is the offset of the batch's first record.
func (b Batch) BaseOffset() int64 { return b.LastOffset - int64(b.OffsetDelta) }

// FirstSequence is the sequence of the batch's first record.
func (b Batch) FirstSequence() int32 { return subtractSequence(b.LastSequence, b.OffsetDelta) }

// subtractSequence moves a sequence back by n and wraps below 0 (DefaultRecordBatch.decrementSequence).
func subtractSequence(sequence, n int32) int32 {
	if sequence < n {
		return math.MaxInt32 - (n - sequence) + 1
	}
	return sequence - n
}

// Producer is what a partition knows of one producer id.
type Producer struct {
	ID               int64
	Epoch            int16
	CoordinatorEpoch int32 // of the last transaction marker, -1 before any
	LastTimestamp    int64 // milliseconds; of the last batch or marker, decides expiry
	TxnFirstOffset   int64 // of the open transaction, -1 when there is none
	batches          [retainedBatches]Batch
	count            int // how many of batches are set, the oldest first
}

// Batches are the remembered batches, the oldest first. The slice is borrowed until the producer changes.
func (p *Producer) Batches() []Batch { return p.batches[:p.count] }

// LastSequence is the sequence of the producer's last record here, or -1.
func (p *Producer) LastSequence() int32 {
	if p.count == 0 {
		return batch.NoSequence
	}
	return p.batches[p.count-1].LastSequence
}

// LastOffset is the offset of the producer's last record here, or -1.
func (p *Producer) LastOffset() int64 {
	if p.count == 0 {
		return noOffset
	}
	return p.batches[p.count-1].LastOffset
}

func (p *Producer) add(b Batch) {
	if p.count == retainedBatches {
		copy(p.batches[:], p.batches[1:])
		p.count--
	}
	p.batches[p.count] = b
	p.count++
}

func (p *Producer) find(h *batch.Header) (Batch, bool) {
	if h.ProducerEpoch != p.Epoch {
		return Batch{}, false
	}
	for _, b := range p.Batches() {
		if b.FirstSequence() == h.BaseSequence && b.LastSequence == h.LastSequence() {
			return b, true
		}
	}
	return Batch{}, false
}

// Producers are the producers of one partition. The zero value is empty and ready.
type Producers struct {
	byID map[int64]*Producer
	// open are the transactions that have no marker yet, by first offset, ascending.
	open []openTxn
	// undecided are transactions whose marker is in the log but not below the high watermark: readers of committed
	// data must not pass them yet.
	undecided []completedTxn
}

type openTxn struct {
	producer    int64
	firstOffset int64
}

type completedTxn struct {
	firstOffset, markerOffset int64
}

// Aborted is a transaction that ended with an abort marker: an entry of the transaction index.
type Aborted struct {
	ProducerID       int64
	FirstOffset      int64
	LastOffset       int64 // of the marker
	LastStableOffset int64 // after the abort
}

// Len is the number of producers that are remembered.
func (s *Producers) Len() int { return len(s.byID) }

// Get is the producer of that id, nil when unknown. It is borrowed until the next change.
func (s *Producers) Get(id int64) *Producer { return s.byID[id] }

// All calls f for every producer in the order of their ids.
func (s *Producers) All(f func(*Producer)) {
	ids := make([]int64, 0, len(s.byID))
	for id := range s.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		f(s.byID[id])
	}
}

// Check decides on a batch that a client wants to append. A batch without producer id always passes. A batch that is
// one of the remembered ones is a retry: it is returned with true, and must be answered with its first offset and not
// appended. Otherwise the errors of this room say why not (ProducerAppendInfo.maybeValidateDataBatch). Unknown producers
// may begin at any sequence: their earlier state may have expired.
func (s *Producers) Check(h *batch.Header) (Batch, bool, error) {
	if !h.HasProducerID() {
		return Batch{}, false, nil
	}
	p := s.byID[h.ProducerID]
	if p == nil {
		return Batch{}, false, nil
	}
	if b, ok := p.find(h); ok {
		return b, true, nil
	}
	switch {
	case h.ProducerEpoch < p.Epoch:
		return Batch{}, false, fmt.Errorf("%w: producer %d has epoch %d here, the batch %d", ErrInvalidProducerEpoch, p.ID, p.Epoch, h.ProducerEpoch)
	case h.ProducerEpoch > p.Epoch:
		if h.BaseSequence != 0 {
			return Batch{}, false, fmt.Errorf("%w: producer %d begins epoch %d with sequence %d instead of 0", ErrOutOfOrderSequence, p.ID, h.ProducerEpoch, h.BaseSequence)
		}
	case p.count > 0 && h.BaseSequence != batch.AddSequence(p.LastSequence(), 1):
		return Batch{}, false, fmt.Errorf("%w: producer %d sends sequence %d after %d", ErrOutOfOrderSequence, p.ID, h.BaseSequence, p.LastSequence())
	}
	if p.TxnFirstOffset != noOffset && !h.Attributes.Transactional() {
		return Batch{}, false, fmt.Errorf("%w: producer %d has an open transaction from offset %d", ErrInvalidTxnState, p.ID, p.TxnFirstOffset)
	}
	return Batch{}, false, nil
}

// Appended notes a data batch that is in the log: appended by this leader, fetched, or found at recovery.
func (s *Producers) Appended(h *batch.Header) {
	if !h.HasProducerID() || h.Attributes.Control() {
		return
	}
	p := s.at(h.ProducerID, h.ProducerEpoch)
	if h.BaseSequence >= 0 {
		p.add(Batch{LastSequence: h.LastSequence(), LastOffset: h.LastOffset(), OffsetDelta: h.LastOffsetDelta, Timestamp: h.MaxTimestamp})
	}
	p.LastTimestamp = h.MaxTimestamp
	if h.Attributes.Transactional() && p.TxnFirstOffset == noOffset {
		p.TxnFirstOffset = h.BaseOffset
		s.open = append(s.open, openTxn{p.ID, h.BaseOffset})
	}
}

// at is the producer in that epoch, made or moved to the epoch where needed.
func (s *Producers) at(id int64, epoch int16) *Producer {
	if s.byID == nil {
		s.byID = make(map[int64]*Producer)
	}
	p := s.byID[id]
	if p == nil {
		p = &Producer{ID: id, Epoch: epoch, CoordinatorEpoch: -1, TxnFirstOffset: noOffset}
		s.byID[id] = p
	}
	if p.Epoch != epoch {
		p.Epoch, p.count = epoch, 0
	}
	return p
}

// CheckMarker decides on a transaction marker that a coordinator wants to append.
func (s *Producers) CheckMarker(h *batch.Header, coordinatorEpoch int32) error {
	p := s.byID[h.ProducerID]
	switch {
	case p == nil:
	case h.ProducerEpoch < p.Epoch:
		return fmt.Errorf("%w: producer %d has epoch %d here, the marker %d", ErrInvalidProducerEpoch, p.ID, p.Epoch, h.ProducerEpoch)
	case coordinatorEpoch < p.CoordinatorEpoch:
		return fmt.Errorf("%w: epoch %d, the last marker had %d", ErrCoordinatorFenced, coordinatorEpoch, p.CoordinatorEpoch)
	}
	return nil
}

// Marked notes a transaction marker that is in the log, and returns the entry for the transaction index when the
// marker aborted records.
func (s *Producers) Marked(h *batch.Header, commit bool, coordinatorEpoch int32) (Aborted, bool) {
	p := s.at(h.ProducerID, h.ProducerEpoch)
	p.CoordinatorEpoch, p.LastTimestamp = coordinatorEpoch, h.MaxTimestamp
	first := p.TxnFirstOffset
	if first == noOffset {
		return Aborted{}, false
	}
	p.TxnFirstOffset = noOffset
	s.open = slices.DeleteFunc(s.open, func(t openTxn) bool { return t.producer == p.ID })
	s.undecided = append(s.undecided, completedTxn{first, h.LastOffset()})
	if commit {
		return Aborted{}, false
	}
	stable := h.LastOffset() + 1
	if len(s.open) > 0 {
		stable = s.open[0].firstOffset
	}
	return Aborted{ProducerID: p.ID, FirstOffset: first, LastOffset: h.LastOffset(), LastStableOffset: stable}, true
}

// FirstUnstable is the first offset that may yet turn out aborted, or -1: readers of committed data stop before it.
func (s *Producers) FirstUnstable() int64 {
	first := noOffset
	if len(s.open) > 0 {
		first = s.open[0].firstOffset
	}
	for _, t := range s.undecided {
		if first == noOffset || t.firstOffset < first {
			first = t.firstOffset
		}
	}
	return first
}

// PassedHighWatermark forgets the completed transactions whose marker lies below the high watermark.
func (s *Producers) PassedHighWatermark(highWatermark int64) {
	if len(s.undecided) > 0 {
		s.undecided = slices.DeleteFunc(s.undecided, func(t completedTxn) bool { return t.markerOffset < highWatermark })
	}
}

// StartMoved forgets the transactions that lie wholly before the log's new start, as after DeleteRecords. Producers stay
// until they expire: their sequences go on.
func (s *Producers) StartMoved(start int64) {
	s.undecided = slices.DeleteFunc(s.undecided, func(t completedTxn) bool { return t.markerOffset < start })
}

// Expire forgets producers that have written nothing for the given time (producer.id.expiration.ms) and have no open
// transaction. nowMs is the box's wall clock. It returns how many.
func (s *Producers) Expire(nowMs int64, after time.Duration) int {
	n := 0
	for id, p := range s.byID {
		if p.TxnFirstOffset == noOffset && nowMs-p.LastTimestamp >= after.Milliseconds() {
			delete(s.byID, id)
			n++
		}
	}
	return n
}

// EvictOldest forgets the n producers without open transaction that wrote least recently: what a partition does at its
// maximum of producer ids. It returns how many it could.
func (s *Producers) EvictOldest(n int) int {
	idle := make([]*Producer, 0, len(s.byID))
	for _, p := range s.byID {
		if p.TxnFirstOffset == noOffset {
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, func(a, b *Producer) int {
		if a.LastOffset() != b.LastOffset() {
			if a.LastOffset() < b.LastOffset() {
				return -1
			}
			return 1
		}
		return int(min(max(a.ID-b.ID, -1), 1))
	})
	n = min(n, len(idle))
	for _, p := range idle[:n] {
		delete(s.byID, p.ID)
	}
	return n
}
