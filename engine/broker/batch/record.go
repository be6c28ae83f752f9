package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Layout of a record; varint and varlong are zigzag, as in encoding/binary (org.apache.kafka.common.record.DefaultRecord):
//
//	length varint (bytes after it) | attributes int8 | timestamp delta varlong | offset delta varint |
//	key length varint (-1 null) | key | value length varint (-1 null) | value |
//	header count varint | { key length varint | key | value length varint (-1 null) | value }
//
// recordSizeMin is a record with null key, null value and no headers.
const recordSizeMin = 7

// Record is one parsed record. Key, Value and the headers point into the bytes that were walked. A nil slice is null, an
// empty one is empty.
type Record struct {
	TimestampDelta int64
	OffsetDelta    int32
	Key, Value     []byte

	headers     []byte
	headerCount int
}

// HeaderField is one header of a record. A nil Value is null.
type HeaderField struct {
	Key   string
	Value []byte
}

// HeaderCount is the number of headers.
func (r *Record) HeaderCount() int { return r.headerCount }

// Headers returns the record's headers; it allocates the slice and the keys.
func (r *Record) Headers() []HeaderField {
	if r.headerCount == 0 {
		return nil
	}
	fields := make([]HeaderField, 0, r.headerCount)
	p := parser{b: r.headers}
	for range r.headerCount {
		key, _ := p.bytes()
		value, _ := p.bytes()
		fields = append(fields, HeaderField{Key: string(key), Value: value})
	}
	return fields
}

// Timestamp is the record's time in milliseconds since 1970 in a batch with header h.
func (r *Record) Timestamp(h *Header) int64 {
	if h.Attributes.LogAppendTime() {
		return h.MaxTimestamp
	}
	return h.BaseTimestamp + r.TimestampDelta
}

// parser reads the parts of a record and remembers the first thing that was wrong.
type parser struct {
	b   []byte
	bad string
}

func (p *parser) fail(what string) {
	if p.bad == "" {
		p.bad = what
	}
	p.b = nil
}

func (p *parser) varlong() int64 {
	// A single byte is by far the most frequent.
	if len(p.b) > 0 && p.b[0] < 0x80 {
		u := p.b[0]
		p.b = p.b[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail("bad varint")
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int32 {
	v := p.varlong()
	if v < math.MinInt32 || v > math.MaxInt32 {
		p.fail("varint out of range")
		return 0
	}
	return int32(v)
}

// bytes reads a length and as many bytes. ok is false for null.
func (p *parser) bytes() (b []byte, ok bool) {
	n := p.varint()
	switch {
	case n == -1:
		return nil, false
	case n < 0 || int64(n) > int64(len(p.b)):
		p.fail("length beyond the record")
		return nil, false
	}
	b, p.b = p.b[:n:n], p.b[n:]
	return b, true
}

// ReadRecord reads the record at the beginning of b, which holds uncompressed records, and returns its length in bytes.
// It returns ErrInvalid if the record does not fill exactly the length that it states.
func ReadRecord(b []byte, r *Record) (int, error) {
	p := parser{b: b}
	length := p.varint()
	if p.bad != "" || length < recordSizeMin-1 || int64(length) > int64(len(p.b)) {
		return 0, fmt.Errorf("%w: record of length %d in %d bytes", ErrInvalid, length, len(p.b))
	}
	size := len(b) - len(p.b) + int(length)
	p.b = p.b[1:length] // the attributes, a byte that has no meaning yet
	r.TimestampDelta = p.varlong()
	r.OffsetDelta = p.varint()
	r.Key, _ = p.bytes()
	r.Value, _ = p.bytes()
	count := p.varint()
	if count < 0 || int64(count)*2 > int64(len(p.b)) {
		p.fail("header count")
		count = 0
	}
	r.headers, r.headerCount = p.b, int(count)
	for range count {
		if _, ok := p.bytes(); !ok {
			p.fail("null header key")
			break
		}
		p.bytes()
	}
	if p.bad != "" {
		return 0, fmt.Errorf("%w: %s", ErrInvalid, p.bad)
	}
	if len(p.b) != 0 {
		return 0, fmt.Errorf("%w: %d bytes left over in a record of length %d", ErrInvalid, len(p.b), length)
	}
	return size, nil
}

// Summary is what a walk over the records of a batch saw.
type Summary struct {
	// MaxTimestamp is the greatest timestamp and MaxTimestampOffset the offset of the first record that has it.
	MaxTimestamp, MaxTimestampOffset int64
	// MinTimestamp is the smallest timestamp.
	MinTimestamp int64
	// NullKeys counts records without key, which a compacted topic refuses; FirstNullKey is the index of the first.
	NullKeys, FirstNullKey int
}

// RecordError says which record of a batch broke a rule. It wraps ErrInvalid.
type RecordError struct {
	Index int // in the batch, from 0
	Err   error
}

// Error names the record.
func (e *RecordError) Error() string { return fmt.Sprintf("record %d: %v", e.Index, e.Err) }

// Unwrap returns what is wrong with the record.
func (e *RecordError) Unwrap() error { return e.Err }

// CheckRecords walks the uncompressed records of a batch that a producer made: as many as the header counts, offset
// deltas 0, 1, 2, …, lengths exact, nothing left over. It allocates nothing unless something is wrong. records are the
// bytes behind the header, unpacked if the batch is compressed. Errors are ErrInvalid, as a *RecordError where one record
// is at fault.
func CheckRecords(h *Header, records []byte) (Summary, error) {
	s := Summary{MaxTimestamp: math.MinInt64, MinTimestamp: math.MaxInt64, FirstNullKey: -1}
	if int64(h.Count)*recordSizeMin > int64(len(records)) {
		return s, fmt.Errorf("%w: %d records in %d bytes", ErrInvalid, h.Count, len(records))
	}
	var r Record
	for i := range int(h.Count) {
		n, err := ReadRecord(records, &r)
		if err != nil {
			return s, &RecordError{i, err}
		}
		if int(r.OffsetDelta) != i {
			return s, &RecordError{i, fmt.Errorf("%w: offset delta %d", ErrInvalid, r.OffsetDelta)}
		}
		s.add(i, &r, h)
		records = records[n:]
	}
	if len(records) != 0 {
		return s, fmt.Errorf("%w: %d bytes behind the last record", ErrInvalid, len(records))
	}
	return s, nil
}

func (s *Summary) add(i int, r *Record, h *Header) {
	if r.Key == nil {
		if s.NullKeys == 0 {
			s.FirstNullKey = i
		}
		s.NullKeys++
	}
	ts := r.Timestamp(h)
	if ts > s.MaxTimestamp {
		s.MaxTimestamp, s.MaxTimestampOffset = ts, h.BaseOffset+int64(r.OffsetDelta)
	}
	s.MinTimestamp = min(s.MinTimestamp, ts)
}

// Walk calls f for each record of a stored batch, whose offset deltas may have gaps. f's argument is valid during the
// call only; its slices are as long valid as records. An error of f ends the walk and is returned.
func Walk(h *Header, records []byte, f func(r *Record) error) error {
	var r Record
	for i := range int(h.Count) {
		n, err := ReadRecord(records, &r)
		if err != nil {
			return &RecordError{i, err}
		}
		if r.OffsetDelta < 0 || r.OffsetDelta > h.LastOffsetDelta {
			return &RecordError{i, fmt.Errorf("%w: offset delta %d of at most %d", ErrInvalid, r.OffsetDelta, h.LastOffsetDelta)}
		}
		if err := f(&r); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}
