package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Layout of a batch, all integers big-endian (org.apache.kafka.common.record.DefaultRecordBatch):
//
//	 0  base offset            int64   stamped by the leader, outside the CRC
//	 8  length                 int32   bytes after this field
//	12  partition leader epoch int32   stamped by the leader, outside the CRC
//	16  magic                  int8    2
//	17  crc                    uint32  CRC-32C of everything from attributes on
//	21  attributes             int16
//	23  last offset delta      int32
//	27  base timestamp         int64   with bit 6 of the attributes: when compaction may drop tombstones (KIP-534)
//	35  max timestamp          int64
//	43  producer id            int64
//	51  producer epoch         int16
//	53  base sequence          int32
//	57  record count           int32
//	61  records, compressed as a whole when the attributes name a codec
const (
	// HeaderSize is the length in bytes of a batch with no records.
	HeaderSize = 61
	// PrefixSize is the length in bytes of base offset and length, which the length field does not count.
	PrefixSize = 12
	// Magic is the only format that is stored. KIP-896 ended the older ones.
	Magic = 2

	atLength        = 8
	atLeaderEpoch   = 12
	atMagic         = 16
	atCRC           = 17
	atAttributes    = 21
	atLastDelta     = 23
	atBaseTimestamp = 27
	atMaxTimestamp  = 35
	atProducerID    = 43
	atProducerEpoch = 51
	atBaseSequence  = 53
	atCount         = 57

	lengthMin = HeaderSize - PrefixSize
)

// Values that mean "none" in a header.
const (
	NoTimestamp     = -1
	NoProducerID    = -1
	NoProducerEpoch = -1
	NoSequence      = -1
	NoLeaderEpoch   = -1
)

// Errors that callers tell apart with errors.Is. The server maps them to protocol codes.
var (
	// ErrTruncated means that the bytes end before the batch does. In a fetched or produced tail that is no damage.
	ErrTruncated = errors.New("batch is cut off")
	// ErrMagic means a format other than v2 (Kafka: UNSUPPORTED_FOR_MESSAGE_FORMAT, or corrupt data).
	ErrMagic = errors.New("unsupported batch format")
	// ErrCorrupt means that a length, the CRC or a field contradicts the rest (Kafka: CORRUPT_MESSAGE).
	ErrCorrupt = errors.New("corrupt batch")
	// ErrInvalid means that the batch is intact but breaks a rule for records (Kafka: INVALID_RECORD).
	ErrInvalid = errors.New("invalid record")
	// ErrTooLarge means that a batch, or what it unpacks to, is over the bound that the caller gave.
	ErrTooLarge = errors.New("batch too large")
	// ErrCodec means an unknown codec, or compressed bytes that the codec cannot read.
	ErrCodec = errors.New("cannot read compressed batch")
)

// Attributes are the flags of a batch.
type Attributes int16

// Bits of Attributes.
const (
	codecMask        Attributes = 0x07
	logAppendTimeBit Attributes = 0x08
	transactionalBit Attributes = 0x10
	controlBit       Attributes = 0x20
	deleteHorizonBit Attributes = 0x40
)

// Codec is the compression of the records.
func (a Attributes) Codec() Codec { return Codec(a & codecMask) }

// LogAppendTime reports whether the broker, not the producer, set the timestamps (KIP-32).
func (a Attributes) LogAppendTime() bool { return a&logAppendTimeBit != 0 }

// Transactional reports whether the batch is part of a transaction (KIP-98).
func (a Attributes) Transactional() bool { return a&transactionalBit != 0 }

// Control reports whether the batch holds a control record, such as the end of a transaction.
func (a Attributes) Control() bool { return a&controlBit != 0 }

// DeleteHorizon reports whether the base timestamp is the time from which compaction may drop tombstones (KIP-534).
func (a Attributes) DeleteHorizon() bool { return a&deleteHorizonBit != 0 }

// Header is a parsed copy of the first 61 bytes of a batch.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after the length field
	LeaderEpoch     int32
	CRC             uint32
	Attributes      Attributes
	LastOffsetDelta int32
	BaseTimestamp   int64 // milliseconds since 1970
	MaxTimestamp    int64 // milliseconds since 1970; the producer's claim
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32 // records; at most LastOffsetDelta+1, less after compaction
}

// Size is the length in bytes of the whole batch.
func (h *Header) Size() int { return PrefixSize + int(h.Length) }

// LastOffset is the offset of the last record that the batch had when it was appended.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is the offset after the batch.
func (h *Header) NextOffset() int64 { return h.LastOffset() + 1 }

// LastSequence is the producer's sequence number of the last record, which wraps from the greatest int32 to 0, or
// NoSequence.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// HasProducerID reports whether an idempotent or transactional producer made the batch.
func (h *Header) HasProducerID() bool { return h.ProducerID > NoProducerID }

// AddSequence moves a sequence number forward by n and wraps from the greatest int32 to 0
// (DefaultRecordBatch.incrementSequence).
func AddSequence(sequence, n int32) int32 {
	if sequence > math.MaxInt32-n {
		return n - (math.MaxInt32 - sequence) - 1
	}
	return sequence + n
}

// Parse reads and checks a header. b starts at a batch and need not hold more of it than the header. It returns
// ErrTruncated for fewer than HeaderSize bytes, ErrMagic for another format, ErrCorrupt for lengths and counts that no
// batch has. It does not look at the CRC or at the records, and allows any base offset: what a producer sends there is
// overwritten.
func Parse(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, fmt.Errorf("%w: %d of %d header bytes", ErrTruncated, len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if b[atMagic] != Magic {
		return h, fmt.Errorf("%w: magic %d", ErrMagic, int8(b[atMagic]))
	}
	h = Header{
		BaseOffset:      int64(binary.BigEndian.Uint64(b)),
		Length:          int32(binary.BigEndian.Uint32(b[atLength:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])),
		CRC:             binary.BigEndian.Uint32(b[atCRC:]),
		Attributes:      Attributes(binary.BigEndian.Uint16(b[atAttributes:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[atLastDelta:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[atProducerID:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[atProducerEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[atBaseSequence:])),
		Count:           int32(binary.BigEndian.Uint32(b[atCount:])),
	}
	return h, h.check()
}

func (h *Header) check() error {
	switch {
	case h.Length < lengthMin || h.Length > math.MaxInt32-PrefixSize:
		return fmt.Errorf("%w: length %d", ErrCorrupt, h.Length)
	case h.LastOffsetDelta < 0:
		return fmt.Errorf("%w: last offset delta %d", ErrCorrupt, h.LastOffsetDelta)
	case h.BaseOffset > math.MaxInt64-int64(h.LastOffsetDelta)-1:
		return fmt.Errorf("%w: base offset %d with last offset delta %d", ErrCorrupt, h.BaseOffset, h.LastOffsetDelta)
	case h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1:
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrCorrupt, h.Count, h.LastOffsetDelta)
	case !h.Attributes.Codec().Known():
		return fmt.Errorf("%w: codec %d", ErrCodec, h.Attributes.Codec())
	}
	return nil
}

// CheckProduced applies the rules for a batch that a client produces (LogValidator.validateBatch): a whole, uncompacted
// batch of at least one record, not a control batch, no delete horizon, sequence and producer id given together, and not
// longer than sizeMax bytes. It returns ErrTooLarge, ErrInvalid or ErrCorrupt.
func (h *Header) CheckProduced(sizeMax int) error {
	switch {
	case h.Size() > sizeMax:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, h.Size(), sizeMax)
	case h.Count == 0:
		return fmt.Errorf("%w: no records", ErrInvalid)
	case int64(h.Count) != int64(h.LastOffsetDelta)+1:
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrInvalid, h.Count, h.LastOffsetDelta)
	case h.Attributes.Control():
		return fmt.Errorf("%w: control batch from a client", ErrInvalid)
	case h.Attributes.DeleteHorizon():
		return fmt.Errorf("%w: delete horizon from a client", ErrInvalid)
	case h.HasProducerID() && h.BaseSequence < 0:
		return fmt.Errorf("%w: sequence %d of producer %d", ErrInvalid, h.BaseSequence, h.ProducerID)
	case h.Attributes.Transactional() && !h.HasProducerID():
		return fmt.Errorf("%w: transactional batch without producer id", ErrInvalid)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum computes the CRC-32C of one whole batch.
func Checksum(b []byte) uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }

// ChecksumStart is the position in a batch from which on the CRC counts.
const ChecksumStart = atAttributes

// UpdateChecksum adds p to a CRC-32C that began with 0 at ChecksumStart, for a batch that is read in pieces.
func UpdateChecksum(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }

// VerifyCRC compares the stored CRC with the bytes of one whole batch: exactly Header.Size() of them. It returns
// ErrCorrupt, or ErrTruncated for fewer bytes than a header.
func VerifyCRC(b []byte) error {
	if len(b) < HeaderSize {
		return fmt.Errorf("%w: %d of %d header bytes", ErrTruncated, len(b), HeaderSize)
	}
	if want, got := binary.BigEndian.Uint32(b[atCRC:]), Checksum(b); want != got {
		return fmt.Errorf("%w: CRC %08x, computed %08x", ErrCorrupt, want, got)
	}
	return nil
}

// Stamp sets base offset and partition leader epoch in place. Both lie outside the CRC, so a batch stays valid. b holds
// at least a header.
func Stamp(b []byte, baseOffset int64, leaderEpoch int32) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint64(b, uint64(baseOffset))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(leaderEpoch))
}

// StampLogAppendTime makes timestamp (milliseconds since 1970) the time of every record of the batch, as the topic
// setting message.timestamp.type=LogAppendTime asks: the attribute bit and the max timestamp are set and the CRC is
// computed anew. The records are not opened: readers take the max timestamp for each of them. b is one whole batch.
func StampLogAppendTime(b []byte, timestamp int64) {
	_ = b[HeaderSize-1]
	a := Attributes(binary.BigEndian.Uint16(b[atAttributes:])) | logAppendTimeBit
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(a))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(timestamp))
	binary.BigEndian.PutUint32(b[atCRC:], Checksum(b))
}
