package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Kafka's producer snapshot, the content of a .snapshot file (ProducerStateManager), all integers big-endian:
//
//	0  version  int16   1
//	2  crc      uint32  CRC-32C of everything after it
//	6  count    int32
//	10 entries  46 bytes each:
//	   producer id        int64
//	   epoch              int16
//	   last sequence      int32
//	   last offset        int64
//	   offset delta       int32
//	   timestamp          int64
//	   coordinator epoch  int32
//	   first offset of the open transaction  int64, -1 for none
//
// Kafka writes one entry for each producer and takes the last one where there are several. cairn writes up to five, the
// oldest batch first, so that a retry is known after a restart as well; Kafka and its dump tool read them as they are.
const (
	snapshotVersion    = 1
	snapshotHeaderSize = 10
	snapshotEntrySize  = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

// ErrSnapshot means that the bytes are no producer snapshot: the state is then rebuilt from the log.
var ErrSnapshot = errors.New("damaged producer snapshot")

// MarshalSnapshot appends the snapshot of the producers to b.
func (s *Producers) MarshalSnapshot(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, snapshotHeaderSize)...)
	count := 0
	s.All(func(p *Producer) {
		batches := p.Batches()
		if len(batches) == 0 {
			// A producer that only has a marker: no batch, but an epoch that must not be forgotten.
			batches = []Batch{{LastSequence: -1, LastOffset: -1, OffsetDelta: 0, Timestamp: p.LastTimestamp}}
		}
		for i, e := range batches {
			timestamp := e.Timestamp
			if i == len(batches)-1 {
				timestamp = p.LastTimestamp
			}
			b = binary.BigEndian.AppendUint64(b, uint64(p.ID))
			b = binary.BigEndian.AppendUint16(b, uint16(p.Epoch))
			b = binary.BigEndian.AppendUint32(b, uint32(e.LastSequence))
			b = binary.BigEndian.AppendUint64(b, uint64(e.LastOffset))
			b = binary.BigEndian.AppendUint32(b, uint32(e.OffsetDelta))
			b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
			b = binary.BigEndian.AppendUint32(b, uint32(p.CoordinatorEpoch))
			b = binary.BigEndian.AppendUint64(b, uint64(p.TxnFirstOffset))
			count++
		}
	})
	head := b[start:]
	binary.BigEndian.PutUint16(head, snapshotVersion)
	binary.BigEndian.PutUint32(head[6:], uint32(count))
	binary.BigEndian.PutUint32(head[2:], crc32.Checksum(head[6:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// UnmarshalSnapshot replaces the producers by those of a snapshot. On ErrSnapshot they are empty.
func (s *Producers) UnmarshalSnapshot(b []byte) error {
	*s = Producers{}
	if len(b) < snapshotHeaderSize {
		return fmt.Errorf("%w: %d bytes", ErrSnapshot, len(b))
	}
	if v := binary.BigEndian.Uint16(b); v != snapshotVersion {
		return fmt.Errorf("%w: version %d", ErrSnapshot, v)
	}
	if want, got := binary.BigEndian.Uint32(b[2:]), crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli)); want != got {
		return fmt.Errorf("%w: CRC %08x, computed %08x", ErrSnapshot, want, got)
	}
	count, entries := binary.BigEndian.Uint32(b[6:]), b[snapshotHeaderSize:]
	if uint64(count)*snapshotEntrySize != uint64(len(entries)) {
		return fmt.Errorf("%w: %d entries in %d bytes", ErrSnapshot, count, len(entries))
	}
	for ; len(entries) > 0; entries = entries[snapshotEntrySize:] {
		s.load(entries[:snapshotEntrySize])
	}
	return nil
}

func (s *Producers) load(e []byte) {
	p := s.at(int64(binary.BigEndian.Uint64(e)), int16(binary.BigEndian.Uint16(e[8:])))
	b := Batch{
		LastSequence: int32(binary.BigEndian.Uint32(e[10:])),
		LastOffset:   int64(binary.BigEndian.Uint64(e[14:])),
		OffsetDelta:  int32(binary.BigEndian.Uint32(e[22:])),
		Timestamp:    int64(binary.BigEndian.Uint64(e[26:])),
	}
	if b.LastSequence >= 0 && b.OffsetDelta >= 0 {
		p.add(b)
	}
	p.LastTimestamp = b.Timestamp
	p.CoordinatorEpoch = int32(binary.BigEndian.Uint32(e[34:]))
	if first := int64(binary.BigEndian.Uint64(e[38:])); first >= 0 && p.TxnFirstOffset == noOffset {
		p.TxnFirstOffset = first
		s.open = append(s.open, openTxn{p.ID, first})
		for i := len(s.open) - 1; i > 0 && s.open[i].firstOffset < s.open[i-1].firstOffset; i-- {
			s.open[i], s.open[i-1] = s.open[i-1], s.open[i]
		}
	}
}
