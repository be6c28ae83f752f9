package seglog

import (
	"fmt"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// FlushedEnd is the offset before which the log is on stable storage now, which may be more than when the view was taken.
func (v View) FlushedEnd() int64 { return v.log.FlushedEnd() }

// Dir is the log directory that the log is in.
func (v View) Dir() *Dir { return v.log.dir }

// Cleaned is Log.Cleaned now.
func (v View) Cleaned() int64 { return v.log.Cleaned() }

// Cut reports whether the log was cut, or begun anew, since the view was taken: what was concluded from all of its records does not hold for
// those that are left. What went from the log's start since does not count.
func (v View) Cut() bool { return v.log.View().cuts != v.cuts }

// Part describes a sealed segment of a view, for whoever decides about segments: compaction.
type Part struct {
	Base, End int64 // offsets: of the segment's name, and where the next one begins
	Size      int64 // bytes of log
}

// Parts are the sealed segments, oldest first. The active one is not among them.
func (v View) Parts() []Part {
	out := make([]Part, 0, len(v.segs))
	for i, s := range v.segs[:len(v.segs)-1] {
		out = append(out, Part{s.base, v.segs[i+1].base, s.size})
	}
	return out
}

// PartNewest is the greatest timestamp in sealed segment i, ms since 1970, or batch.NoTimestamp.
func (v View) PartNewest(i int) (int64, error) {
	newest, err := v.newestOf(v.segs[i])
	if err != nil {
		return 0, fmt.Errorf("newest time in %v: %w", v.log.tp, v.readError(v.segs[i], 0, err))
	}
	return newest.timestamp, nil
}

// PartOldest is the greatest timestamp of the first batch in sealed segment i, or batch.NoTimestamp: how long something
// has lain there. It reads the disk.
func (v View) PartOldest(i int) (int64, error) {
	b, err := v.Batches(i)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	h, _, err := b.Next()
	if err != nil || h == nil {
		return batch.NoTimestamp, err
	}
	return h.MaxTimestamp, nil
}

// PartIndexes are the sizes of the index files of sealed segment i, in bytes.
func (v View) PartIndexes(i int) (offsets, times int64, err error) {
	for _, x := range [...]struct {
		suffix string
		size   *int64
	}{{suffixIndex, &offsets}, {suffixTime, &times}} {
		h, err := v.segs[i].files.open(x.suffix)
		if isGone(err) && !v.segs[i].files.gone.Load() {
			continue // it is rebuilt at the next start
		}
		if err == nil {
			*x.size, err = h.File().Size()
			h.Release()
		}
		if err != nil {
			return 0, 0, v.readError(v.segs[i], 0, err)
		}
	}
	return offsets, times, nil
}

// Batches walks the batches of one segment with their bytes, and keeps the file open meanwhile.
type Batches struct {
	v     View
	s     *segment
	h     *vfs.Handle
	r     batchReader
	whole []byte
}

// Batches begins at the start of sealed segment i. ErrOutOfRange says that the segment has been removed or replaced since.
func (v View) Batches(i int) (*Batches, error) {
	s := v.segs[i]
	h, err := s.files.open(suffixLog)
	if err != nil {
		return nil, fmt.Errorf("read segment %d of %v: %w", s.base, v.log.tp, v.readError(s, 0, err))
	}
	return &Batches{v: v, s: s, h: h, r: newBatchReader(h.File(), 0, s.size, make([]byte, scanSize))}, nil
}

// Next returns the next whole batch, its CRC checked, or nil at the end. Header and bytes are valid until the next call.
func (b *Batches) Next() (*batch.Header, []byte, error) {
	ok, err := b.r.next()
	if err != nil || !ok {
		return nil, nil, b.explain(err)
	}
	var whole []byte
	if b.r.size <= int64(len(b.r.buf)) {
		whole, err = b.r.bytes(int(b.r.size))
	} else {
		b.whole, err = b.r.whole(b.whole)
		whole = b.whole
	}
	if err == nil {
		if invalid := batch.VerifyCRC(whole); invalid != nil {
			err = fmt.Errorf("%w: %w", errDamaged, invalid)
		}
	}
	if err != nil {
		return nil, nil, b.explain(err)
	}
	return &b.r.h, whole, nil
}

func (b *Batches) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read segment %d of %v: %w", b.s.base, b.v.log.tp, b.v.readError(b.s, b.r.pos, err))
}

// Close lets go of the file.
func (b *Batches) Close() { b.h.Release() }
