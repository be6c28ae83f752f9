package frames

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// A record batch of format v2 (Kafka's DefaultRecordBatch):
//
//	offset  0 int64 base offset        8 int32 batch length      12 int32 leader epoch     16 int8 magic
//	       17 uint32 CRC-32C of what follows
//	       21 int16 attributes        23 int32 last offset delta 27 int64 first timestamp  35 int64 max timestamp
//	       43 int64 producer id       51 int16 producer epoch    53 int32 first sequence   57 int32 record count
//	       61 records
const (
	batchHeaderBytes = 61
	batchCRCAt       = 17
	batchBodyAt      = 21
)

// Batch returns an uncompressed record batch without producer id, of records with values of valueBytes random bytes and
// no key. The bytes are the same for the same seed, its timestamps apart.
func Batch(records, valueBytes int, seed uint64) []byte {
	source := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, batchHeaderBytes, batchHeaderBytes+records*(valueBytes+16))
	value := make([]byte, valueBytes)
	for i := range records {
		for j := range value {
			value[j] = byte(source.Uint32())
		}
		b = appendRecord(b, i, value)
	}
	now := time.Now().UnixMilli()
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], ^uint32(0))
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(records-1))
	binary.BigEndian.PutUint64(b[27:], uint64(now))
	binary.BigEndian.PutUint64(b[35:], uint64(now))
	binary.BigEndian.PutUint64(b[43:], ^uint64(0))
	binary.BigEndian.PutUint16(b[51:], ^uint16(0))
	binary.BigEndian.PutUint32(b[53:], ^uint32(0))
	binary.BigEndian.PutUint32(b[57:], uint32(records))
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchBodyAt:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// BatchOfBytes returns a batch of one record that has exactly the given size.
func BatchOfBytes(size int, seed uint64) ([]byte, error) {
	for value := size - batchHeaderBytes - 16; value <= size-batchHeaderBytes; value++ {
		if value < 0 {
			continue
		}
		if b := Batch(1, value, seed); len(b) == size {
			return b, nil
		}
	}
	return nil, fmt.Errorf("no batch of one record has %d bytes", size)
}

// appendRecord appends one record: length, attributes, timestamp delta, offset delta, key, value, headers.
func appendRecord(b []byte, delta int, value []byte) []byte {
	body := []byte{0}
	body = binary.AppendVarint(body, 0)
	body = binary.AppendVarint(body, int64(delta))
	body = binary.AppendVarint(body, -1)
	body = binary.AppendVarint(body, int64(len(value)))
	b = binary.AppendVarint(b, int64(len(body)+len(value)+1))
	b = append(append(b, body...), value...)
	return append(b, 0)
}
