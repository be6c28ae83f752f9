package batch

import (
	"encoding/binary"
	"fmt"
)

// ControlType is what a control record says.
type ControlType int16

// The control records of transactions (org.apache.kafka.common.record.ControlRecordType). Others exist in Kafka's own metadata
// log; they are passed on by number.
const (
	Abort  ControlType = 0
	Commit ControlType = 1
)

// Marker is the end of a transaction in one partition (EndTransactionMarker).
type Marker struct {
	Type             ControlType
	CoordinatorEpoch int32
}

// BuildMarker appends a control batch of one record that ends the transaction of producer opts.ProducerID, to dst. Timestamp is in
// milliseconds since 1970. Markers are never compressed.
func BuildMarker(dst []byte, opts Options, timestamp int64, m Marker) ([]byte, error) {
	opts.control, opts.Transactional, opts.Codec, opts.BaseSequence = true, true, None, NoSequence
	b := NewBuilder(opts)
	key := binary.BigEndian.AppendUint16(make([]byte, 2, 4), uint16(m.Type))
	value := binary.BigEndian.AppendUint32(make([]byte, 2, 6), uint32(m.CoordinatorEpoch))
	b.Append(timestamp, key, value)
	return b.Build(dst)
}

// ReadMarker reads the marker of a whole control batch. Version 0 and any later version are read alike, as Kafka does: later
// ones only add fields. For a control type that is not a marker the coordinator epoch is -1. It returns ErrInvalid for a batch that
// is no control batch or whose record is malformed.
func ReadMarker(h *Header, b []byte) (Marker, error) {
	if !h.Attributes.Control() || h.Attributes.Codec() != None || h.Count != 1 || len(b) < h.Size() {
		return Marker{}, fmt.Errorf("%w: not a control batch of one record", ErrInvalid)
	}
	var r Record
	if _, err := ReadRecord(b[HeaderSize:h.Size()], &r); err != nil {
		return Marker{}, fmt.Errorf("control record: %w", err)
	}
	if len(r.Key) < 4 || int16(binary.BigEndian.Uint16(r.Key)) < 0 {
		return Marker{}, fmt.Errorf("%w: control record with a key of %d bytes", ErrInvalid, len(r.Key))
	}
	m := Marker{Type: ControlType(binary.BigEndian.Uint16(r.Key[2:])), CoordinatorEpoch: -1}
	if m.Type != Abort && m.Type != Commit {
		return m, nil
	}
	if len(r.Value) < 6 || int16(binary.BigEndian.Uint16(r.Value)) < 0 {
		return Marker{}, fmt.Errorf("%w: end of transaction with a value of %d bytes", ErrInvalid, len(r.Value))
	}
	m.CoordinatorEpoch = int32(binary.BigEndian.Uint32(r.Value[2:]))
	return m, nil
}
