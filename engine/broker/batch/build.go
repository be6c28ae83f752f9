package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Options are the header fields of a batch under construction. The zero value is not useful: use NewOptions.
type Options struct {
	BaseOffset    int64
	LeaderEpoch   int32
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
	Transactional bool
	Codec         Codec
	// LogAppendTime makes the max timestamp that of every record.
	LogAppendTime bool

	control bool
}

// NewOptions are those of a batch that no idempotent producer made and that has not been appended.
func NewOptions() Options {
	return Options{LeaderEpoch: NoLeaderEpoch, ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence}
}

// Builder makes batches: for __consumer_offsets, control batches, tools and tests. It keeps its buffer between batches and is not for
// concurrent use.
type Builder struct {
	opts    Options
	records []byte
	count   int32
	base    int64
	max     int64
}

// NewBuilder starts a batch.
func NewBuilder(opts Options) *Builder {
	b := &Builder{}
	b.Reset(opts)
	return b
}

// Reset starts another batch.
func (b *Builder) Reset(opts Options) {
	b.opts, b.records, b.count = opts, b.records[:0], 0
	b.base, b.max = 0, math.MinInt64
}

// Count is the number of records so far.
func (b *Builder) Count() int { return int(b.count) }

// Size is the length in bytes that the batch would have uncompressed.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// Append adds a record: timestamp in milliseconds since 1970, nil for a null key or value. Its arguments are copied.
func (b *Builder) Append(timestamp int64, key, value []byte, headers ...HeaderField) {
	if b.count == 0 {
		b.base = timestamp
	}
	b.max = max(b.max, timestamp)
	delta := timestamp - b.base
	length := 1 + sizeVarint(delta) + sizeVarint(int64(b.count)) + sizeBytes(key) + sizeBytes(value) + sizeVarint(int64(len(headers)))
	for _, h := range headers {
		length += sizeVarint(int64(len(h.Key))) + len(h.Key) + sizeBytes(h.Value)
	}
	r := binary.AppendVarint(b.records, int64(length))
	r = append(r, 0)
	r = binary.AppendVarint(r, delta)
	r = binary.AppendVarint(r, int64(b.count))
	r = appendBytes(r, key)
	r = appendBytes(r, value)
	r = binary.AppendVarint(r, int64(len(headers)))
	for _, h := range headers {
		r = binary.AppendVarint(r, int64(len(h.Key)))
		r = append(r, h.Key...)
		r = appendBytes(r, h.Value)
	}
	b.records = r
	b.count++
}

func sizeVarint(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

func sizeBytes(p []byte) int {
	if p == nil {
		return 1
	}
	return sizeVarint(int64(len(p))) + len(p)
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}

// Build appends the finished batch to dst, which the caller owns, and returns the extended slice. It returns ErrInvalid for a
// batch without records and ErrTooLarge for one that no length field can hold.
func (b *Builder) Build(dst []byte) ([]byte, error) {
	if b.count == 0 {
		return dst, fmt.Errorf("%w: no records", ErrInvalid)
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst, err := compress(dst, b.opts.Codec, b.records)
	if err != nil {
		return dst[:start], err
	}
	if len(dst)-start > math.MaxInt32 {
		return dst[:start], fmt.Errorf("%w: %d bytes", ErrTooLarge, len(dst)-start)
	}
	b.putHeader(dst[start:])
	return dst, nil
}

func (b *Builder) putHeader(out []byte) {
	o := &b.opts
	a := Attributes(o.Codec)
	if o.Transactional {
		a |= transactionalBit
	}
	if o.control {
		a |= controlBit
	}
	if o.LogAppendTime {
		a |= logAppendTimeBit
	}
	h := Header{
		BaseOffset: o.BaseOffset, LeaderEpoch: o.LeaderEpoch, Attributes: a, LastOffsetDelta: b.count - 1,
		BaseTimestamp: b.base, MaxTimestamp: b.max, ProducerID: o.ProducerID, ProducerEpoch: o.ProducerEpoch,
		BaseSequence: o.BaseSequence, Count: b.count,
	}
	h.put(out)
}

// xerialBlockSize is snappy-java's block in bytes of uncompressed input.
const xerialBlockSize = 32 << 10

// compress appends the records to dst as the codec packs them.
func compress(dst []byte, codec Codec, records []byte) ([]byte, error) {
	w := bytes.NewBuffer(dst)
	switch codec {
	case None:
		return append(dst, records...), nil
	case Gzip:
		z := gzip.NewWriter(w)
		_, err := z.Write(records)
		if closeErr := z.Close(); err == nil {
			err = closeErr
		}
		return w.Bytes(), err
	case Snappy:
		dst = append(dst, xerialMagic...)
		dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
		for len(records) > 0 {
			n := min(len(records), xerialBlockSize)
			block := snappy.Encode(nil, records[:n])
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
			dst = append(dst, block...)
			records = records[n:]
		}
		return dst, nil
	case LZ4:
		z := lz4.NewWriter(w)
		err := z.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1))
		if err == nil {
			_, err = z.Write(records)
		}
		if closeErr := z.Close(); err == nil {
			err = closeErr
		}
		return w.Bytes(), err
	case Zstd:
		z, err := newZstd()
		if err != nil {
			return dst, err
		}
		return z.EncodeAll(records, dst), nil
	}
	return dst, fmt.Errorf("%w: codec %d", ErrCodec, codec)
}

func newZstd() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
}
