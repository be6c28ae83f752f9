package batch

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

// Rebuilder makes stored batches with fewer records out of stored batches, as compaction needs them: offsets, sequences,
// epochs and the offset of the last record that the batch ever had stay as they are. It keeps its buffer and its encoder
// between calls and is not for concurrent use. The zero value is ready.
type Rebuilder struct {
	records []byte
	zstd    *zstd.Encoder
}

// NoHorizon leaves a batch's delete horizon as it is.
const NoHorizon int64 = -1

// Rebuild appends to dst the batch of header h with those of its records for whose index keep is true, at least one, packed
// by the same codec (MemoryRecords.buildRetainedRecordsInto). records are unpacked. A horizon other than NoHorizon, in
// milliseconds since 1970, becomes the base timestamp, and the attribute bit says so (KIP-534): the records' times stay
// what they were. Errors: ErrInvalid for records that are none, or for none to keep; ErrTooLarge.
func (b *Rebuilder) Rebuild(dst []byte, h *Header, records []byte, keep []bool, horizon int64) ([]byte, error) {
	out := *h
	if horizon != NoHorizon {
		out.BaseTimestamp = horizon
		out.Attributes |= deleteHorizonBit
	}
	out.Count = 0
	newest := int64(math.MinInt64)
	b.records = b.records[:0]
	i := 0
	err := walkRaw(h, records, func(r *Record, raw []byte) {
		if !keep[i] {
			i++
			return
		}
		i++
		out.Count++
		newest = max(newest, r.Timestamp(h))
		if out.BaseTimestamp == h.BaseTimestamp {
			b.records = append(b.records, raw...)
			return
		}
		b.records = appendMoved(b.records, r, raw, h.BaseTimestamp-out.BaseTimestamp)
	})
	if err != nil {
		return dst, err
	}
	if out.Count == 0 {
		return dst, fmt.Errorf("%w: no records", ErrInvalid)
	}
	if !h.Attributes.LogAppendTime() {
		out.MaxTimestamp = newest
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	if dst, err = b.pack(dst, h.Attributes.Codec()); err != nil {
		return dst[:start], err
	}
	if len(dst)-start > math.MaxInt32 {
		return dst[:start], fmt.Errorf("%w: %d bytes", ErrTooLarge, len(dst)-start)
	}
	out.put(dst[start:])
	return dst, nil
}

func (b *Rebuilder) pack(dst []byte, codec Codec) ([]byte, error) {
	if codec != Zstd {
		return compress(dst, codec, b.records)
	}
	if b.zstd == nil { // making one costs more than most batches
		z, err := newZstd()
		if err != nil {
			return dst, err
		}
		b.zstd = z
	}
	return b.zstd.EncodeAll(b.records, dst), nil
}

// walkRaw calls f for each record of a stored batch with the record's own bytes.
func walkRaw(h *Header, records []byte, f func(r *Record, raw []byte)) error {
	var r Record
	for i := range int(h.Count) {
		n, err := ReadRecord(records, &r)
		if err != nil {
			return &RecordError{i, err}
		}
		f(&r, records[:n])
		records = records[n:]
	}
	return nil
}

// appendMoved appends a record whose timestamp delta is by milliseconds greater than in raw.
func appendMoved(dst []byte, r *Record, raw []byte, by int64) []byte {
	_, n := binary.Varint(raw)       // the length
	_, m := binary.Varint(raw[n+1:]) // behind the attributes, the timestamp delta
	rest, delta := raw[n+1+m:], r.TimestampDelta+by
	dst = binary.AppendVarint(dst, int64(1+sizeVarint(delta)+len(rest)))
	dst = append(dst, raw[n])
	dst = binary.AppendVarint(dst, delta)
	return append(dst, rest...)
}

// AppendEmpty appends to dst a batch of header h without its records: what is kept of a producer's last batch, and of the
// last one of a compacted part (DefaultRecordBatch.writeEmptyHeader).
func AppendEmpty(dst []byte, h *Header) []byte {
	out := *h
	out.Attributes &= logAppendTimeBit | transactionalBit | controlBit
	out.BaseTimestamp, out.Count = NoTimestamp, 0
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	out.put(dst[start:])
	return dst
}

// put writes a header in front of the records that b, one whole batch, has already, with length and CRC of them.
func (h *Header) put(b []byte) {
	Stamp(b, h.BaseOffset, h.LeaderEpoch)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-PrefixSize))
	b[atMagic] = Magic
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[atCount:], uint32(h.Count))
	binary.BigEndian.PutUint32(b[atCRC:], Checksum(b))
}
