package compact

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
)

// ErrNoProgress means that not one batch of the dirty part fits into the map of keys.
var ErrNoProgress = errors.New("the keys of one batch are more than the map of keys may hold")

// Bounds are how much memory a pass may take.
type Bounds struct {
	// MapBytesMax bounds the map of keys (log.cleaner.dedupe.buffer.size), and MapLoad is how much of it is filled
	// (log.cleaner.io.buffer.load.factor). A smaller map makes more passes of the same log.
	MapBytesMax int64
	MapLoad     float64
	// OpenBytesMax bounds what one batch may unpack to; a larger one stays whole.
	OpenBytesMax int
}

// Work is a log to be compacted.
type Work struct {
	View     seglog.View
	Look     Look // as Examine found that view
	Settings Settings
	// Producers are the active producers, as they were at or after the view was taken.
	Producers map[int64]Last
	Now       Time
	Bounds    Bounds
}

// Done is what a pass, or a step of it, has done.
type Done struct {
	Read, Written           int64 // bytes of log
	RecordsSeen, RecordsOut int64
}

// Pass is one compaction of one log. Advance takes it on; whenever it reports a Rewrite, the log's owner puts that in place, and
// then Replaced is called. A pass that ends early is given up with Abort.
type Pass struct {
	w      Work
	done   Done
	rules  rules
	groups []group // still to be rewritten; nil while the keys are read

	part   int // segment of the view that is being read
	reader *seglog.Batches

	out     *seglog.Rewrite
	ready   bool          // out waits to be put in place
	dropped *batch.Header // the last batch that was read, if nothing of it was written

	opener  batch.Opener
	rebuild batch.Rebuilder
	buf     []byte
	keep    []bool
}

// NewPass begins a pass over a log that is due. It reads nothing yet.
func NewPass(w Work) *Pass {
	p := &Pass{w: w}
	p.rules = rules{producers: w.Producers, now: w.Now, horizon: w.Now.Ms + w.Settings.DeleteRetention.Milliseconds(), end: w.Look.Dirty}
	p.rules.latest = NewOffsetMap(w.Look.Limit-w.Look.Dirty, w.Bounds.MapBytesMax, w.Bounds.MapLoad)
	return p
}

// Advance reads and writes about as many bytes as budget says. A Rewrite that it returns is sealed and takes the place of
// segments that were read; over says that there is nothing left to do, and that CleanedTo holds. Errors: seglog.ErrOutOfRange where the log was
// cut, or has lost segments, since its view was taken, seglog.ErrCorrupt, ErrFull, ErrFailed, ErrClosed, and ErrNoProgress.
func (p *Pass) Advance(budget int64) (ready *seglog.Rewrite, over bool, err error) {
	if p.w.View.Cut() {
		return nil, false, fmt.Errorf("compact: the log was cut: %w", seglog.ErrOutOfRange) // LogCleanerManager.abortCleaning
	}
	start := p.done.Read + p.done.Written
	for p.done.Read+p.done.Written-start < budget {
		if p.groups == nil {
			err = p.readKeys()
		} else if len(p.groups) == 0 {
			return nil, true, nil
		} else {
			ready, err = p.rewrite()
		}
		if err != nil || ready != nil {
			return ready, false, err
		}
	}
	return nil, false, nil
}

// Replaced says that the Rewrite which Advance returned is in its place.
func (p *Pass) Replaced() { p.out, p.ready = nil, false }

// Abort gives up what is not in place, and lets go of all files.
func (p *Pass) Abort() error {
	p.close()
	if p.out == nil {
		return nil
	}
	out := p.out
	p.out = nil
	return out.Discard()
}

// CleanedTo is the offset before which the log is compacted once the pass is over.
func (p *Pass) CleanedTo() int64 { return p.rules.end }

// Done is what has been done so far.
func (p *Pass) Done() Done { return p.done }

func (p *Pass) close() {
	if p.reader != nil {
		p.reader.Close()
		p.reader = nil
	}
}

// next is the next batch of segment part, or nil behind its last.
func (p *Pass) next() (*batch.Header, []byte, error) {
	if p.reader == nil {
		r, err := p.w.View.Batches(p.part)
		if err != nil {
			return nil, nil, err
		}
		p.reader = r
	}
	h, whole, err := p.reader.Next()
	if err != nil {
		return nil, nil, err
	}
	if h == nil {
		p.close()
		p.part++
	}
	p.done.Read += int64(len(whole))
	return h, whole, nil
}

// readKeys takes one batch of the dirty part into the map (Cleaner.buildOffsetMap).
func (p *Pass) readKeys() error {
	if p.rules.txns == nil {
		if err := p.beginTransactions(p.w.Look.Dirty); err != nil {
			return err
		}
		for parts := p.w.View.Parts(); p.part < p.w.Look.segments && parts[p.part].End <= p.w.Look.Dirty; {
			p.part++
		}
	}
	if p.part >= p.w.Look.segments {
		p.rules.end = p.w.Look.Limit
		return p.beginRewriting()
	}
	h, whole, err := p.next()
	if err != nil || h == nil {
		return err
	}
	full, err := p.takeKeys(h, whole)
	if err != nil {
		return err
	}
	if full {
		p.close()
		if p.rules.end <= p.w.Look.Dirty {
			return fmt.Errorf("%w: batch at offset %d", ErrNoProgress, h.BaseOffset)
		}
		return p.beginRewriting()
	}
	p.rules.end = max(p.rules.end, h.NextOffset())
	return nil
}

// beginTransactions follows the transactions from an offset on.
func (p *Pass) beginTransactions(from int64) error {
	var aborted []seglog.AbortedTxn
	if from < p.w.Look.Limit {
		var err error
		if aborted, err = p.w.View.Aborted(from, p.w.Look.Limit); err != nil {
			return err
		}
	}
	slices.SortStableFunc(aborted, func(a, b seglog.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	p.rules.txns = newTransactions(aborted)
	return nil
}

// takeKeys notes a batch's keys. It reports true for a batch that does not fit.
func (p *Pass) takeKeys(h *batch.Header, whole []byte) (full bool, err error) {
	if h.Attributes.Control() {
		p.rules.txns.control(h, whole)
		return false, nil
	}
	if p.rules.txns.data(h) {
		return false, nil
	}
	records, err := p.open(h, whole)
	if err != nil || records == nil {
		return false, err
	}
	err = batch.Walk(h, records, func(r *batch.Record) error {
		offset := h.BaseOffset + int64(r.OffsetDelta)
		if r.Key != nil && offset >= p.w.Look.Dirty && !p.rules.latest.Put(r.Key, offset) {
			full = true
		}
		return nil
	})
	return full, err
}

// open unpacks a batch's records; nil for one that is too large to unpack, and stays whole.
func (p *Pass) open(h *batch.Header, whole []byte) ([]byte, error) {
	records, err := p.opener.Records(h, whole, p.w.Bounds.OpenBytesMax)
	switch {
	case errors.Is(err, batch.ErrTooLarge):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	case records == nil:
		return []byte{}, nil
	}
	return records, nil
}

// beginRewriting turns to all segments before the map's end.
func (p *Pass) beginRewriting() error {
	segments := 0
	for _, part := range p.w.View.Parts()[:p.w.Look.segments] {
		if part.Base < p.rules.end {
			segments++
		}
	}
	all, err := groups(p.w.View, segments, p.w.Settings)
	if err != nil {
		return err
	}
	p.groups, p.part = append(make([]group, 0, len(all)), all...), 0
	return p.beginTransactions(p.w.View.StartOffset())
}

// rewrite takes one batch of the present group over, or seals its new segment.
func (p *Pass) rewrite() (*seglog.Rewrite, error) {
	if p.ready {
		return nil, fmt.Errorf("%w: the last segment is not in place", seglog.ErrInvalid)
	}
	g := p.groups[0]
	if p.out == nil {
		out, err := p.w.View.Rewrite(g.from, g.to, p.w.Settings.IndexInterval)
		if err != nil {
			return nil, err
		}
		p.out, p.part, p.dropped = out, g.from, nil
	}
	if p.part >= g.to {
		return p.seal()
	}
	h, whole, err := p.next()
	if err != nil || h == nil {
		return nil, err
	}
	return nil, p.take(h, whole)
}

// seal ends a group's segment, which reaches as far as those that it replaces: its last batch stays, without records if need be.
func (p *Pass) seal() (*seglog.Rewrite, error) {
	if p.dropped != nil {
		if err := p.write(batch.AppendEmpty(p.buf[:0], p.dropped)); err != nil {
			return nil, err
		}
	}
	p.dropped, p.groups = nil, p.groups[1:]
	if p.out.Size() == 0 {
		// Segments without a batch: there is nothing to put in their place.
		return nil, p.Abort()
	}
	if err := p.out.Seal(); err != nil {
		return nil, err
	}
	p.ready = true
	return p.out, nil
}

// take writes what stays of a batch.
func (p *Pass) take(h *batch.Header, whole []byte) error {
	f := p.rules.batch(h, whole)
	p.done.RecordsSeen += int64(h.Count)
	if row := p.rules.txns.row; row != nil && h.Attributes.Control() {
		if err := p.out.AppendAborted(*row); err != nil {
			return err
		}
	}
	if f.drop {
		return p.takeEmpty(h, f)
	}
	if h.Attributes.Control() {
		if f.marker && p.rules.dates(h) {
			return p.takeSome(h, whole[batch.HeaderSize:], []bool{true}, p.rules.horizon)
		}
		p.done.RecordsOut += int64(h.Count)
		return p.write(whole)
	}
	records, err := p.open(h, whole)
	if err != nil {
		return err
	}
	if records == nil {
		p.done.RecordsOut += int64(h.Count)
		return p.write(whole)
	}
	kept, tombstones := 0, false
	p.keep = p.keep[:0]
	err = batch.Walk(h, records, func(r *batch.Record) error {
		stays := p.rules.record(h, r)
		p.keep = append(p.keep, stays)
		if stays {
			kept++
			tombstones = tombstones || r.Value == nil
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	if kept == 0 {
		return p.takeEmpty(h, f)
	}
	horizon := batch.NoHorizon
	// Beyond the map's end it may hide a record that is still there for a reader to find (Kafka's Cleaner dates it there too).
	if tombstones && h.BaseOffset < p.rules.end && p.rules.dates(h) {
		horizon = p.rules.horizon
	}
	if kept == int(h.Count) && horizon == batch.NoHorizon {
		p.done.RecordsOut += int64(kept)
		return p.write(whole)
	}
	return p.takeSome(h, records, p.keep, horizon)
}

// takeEmpty keeps a batch without its records where it tells of its producer, and otherwise nothing.
func (p *Pass) takeEmpty(h *batch.Header, f fate) error {
	if f.empty {
		return p.write(batch.AppendEmpty(p.buf[:0], h))
	}
	header := *h
	p.dropped = &header
	return nil
}

func (p *Pass) takeSome(h *batch.Header, records []byte, keep []bool, horizon int64) error {
	b, err := p.rebuild.Rebuild(p.buf[:0], h, records, keep, horizon)
	if err != nil {
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	p.buf = b
	for _, stays := range keep {
		if stays {
			p.done.RecordsOut++
		}
	}
	return p.write(b)
}

func (p *Pass) write(b []byte) error {
	p.dropped = nil
	p.done.Written += int64(len(b))
	return p.out.Append(b)
}
