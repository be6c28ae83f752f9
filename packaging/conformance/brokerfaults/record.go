package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// Where the fields of a record batch of format v2 are that are read here (packaging/bench/frames has the whole header).
const (
	batchHeaderBytes = 61
	batchEpochAt     = 12
	batchCRCAt       = 17
	batchBodyAt      = 21
	batchLastAt      = 23
	batchCountAt     = 57
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ID names a record: the number of its key, and its number among those of the key, from 1. All records of a key go to one
// partition.
type ID struct {
	Key    int32 // probes has those of probes
	Number int64
}

// probes is the key of records that measure times. They may come more than once, and in any order.
const probes = -1

// valueHeadBytes: key int32, number int64. Bytes that follow from the two are behind it.
const valueHeadBytes = 12

// value makes the value of a record.
func value(id ID, size int) []byte {
	b := make([]byte, valueHeadBytes, max(size, valueHeadBytes)+8)
	binary.BigEndian.PutUint32(b, uint32(id.Key))
	binary.BigEndian.PutUint64(b[4:], uint64(id.Number))
	source := rand.NewPCG(uint64(uint32(id.Key)), uint64(id.Number))
	for len(b) < size {
		b = binary.BigEndian.AppendUint64(b, source.Uint64())
	}
	return b[:max(size, valueHeadBytes)]
}

// readValue returns whose value it is. Every byte of it must be what value has made.
func readValue(b []byte) (ID, error) {
	if len(b) < valueHeadBytes {
		return ID{}, fmt.Errorf("a value of %d bytes", len(b))
	}
	id := ID{int32(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint64(b[4:]))}
	if !bytes.Equal(b, value(id, len(b))) {
		return ID{}, fmt.Errorf("a value of %d bytes that says key %d, number %d has other bytes than were produced", len(b), id.Key, id.Number)
	}
	return id, nil
}

// batchOf makes a batch of one record without producer id.
func batchOf(v []byte) []byte {
	body := []byte{0, 0, 0}              // attributes, deltas of timestamp and offset
	body = binary.AppendVarint(body, -1) // no key
	body = binary.AppendVarint(body, int64(len(v)))
	body = append(append(body, v...), 0) // no headers
	b := make([]byte, batchHeaderBytes)
	b = binary.AppendVarint(b, int64(len(body)))
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[batchEpochAt:], ^uint32(0))
	b[16] = 2
	now := uint64(time.Now().UnixMilli())
	binary.BigEndian.PutUint64(b[27:], now)
	binary.BigEndian.PutUint64(b[35:], now)
	binary.BigEndian.PutUint64(b[43:], ^uint64(0))
	binary.BigEndian.PutUint16(b[51:], ^uint16(0))
	binary.BigEndian.PutUint32(b[53:], ^uint32(0))
	binary.BigEndian.PutUint32(b[batchCountAt:], 1)
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchBodyAt:], castagnoli))
	return b
}

// Batch is one record batch of a log; its bytes are those of the file.
type Batch struct {
	Base, Last int64
	Epoch      int32
	Bytes      []byte
}

// nextBatch takes one batch off the bytes of a log. It checks its length and its CRC.
func nextBatch(b []byte) (Batch, []byte, error) {
	if len(b) < batchHeaderBytes {
		return Batch{}, nil, fmt.Errorf("%d bytes are left, too few for a batch", len(b))
	}
	size := 12 + int(binary.BigEndian.Uint32(b[8:]))
	if size < batchHeaderBytes || size > len(b) {
		return Batch{}, nil, fmt.Errorf("a batch of %d bytes where %d are left", size, len(b))
	}
	base := int64(binary.BigEndian.Uint64(b))
	batch := Batch{Base: base, Last: base + int64(binary.BigEndian.Uint32(b[batchLastAt:])), Epoch: int32(binary.BigEndian.Uint32(b[batchEpochAt:])), Bytes: b[:size]}
	if crc := crc32.Checksum(batch.Bytes[batchBodyAt:], castagnoli); crc != binary.BigEndian.Uint32(batch.Bytes[batchCRCAt:]) {
		return batch, nil, fmt.Errorf("the batch at offset %d has a wrong CRC", base)
	}
	return batch, b[size:], nil
}

// records calls do for each record of an uncompressed batch. A value that is null is nil, an empty one is not.
func (b Batch) records(do func(offset int64, key, value []byte)) error {
	rest := b.Bytes[batchHeaderBytes:]
	varint := func() int64 {
		n, used := binary.Varint(rest)
		if used <= 0 {
			rest = nil
			return -1
		}
		rest = rest[used:]
		return n
	}
	field := func() []byte {
		n := varint()
		if n < 0 || n > int64(len(rest)) {
			return nil
		}
		f := rest[:n:n]
		rest = rest[n:]
		return f
	}
	for range binary.BigEndian.Uint32(b.Bytes[batchCountAt:]) {
		size := varint()
		if size < 1 || size > int64(len(rest)) {
			return fmt.Errorf("the batch at offset %d has a record of %d bytes where %d are left", b.Base, size, len(rest))
		}
		after := rest[size:]
		rest = rest[1:size]
		varint() // timestamp
		delta := varint()
		key := field()
		do(b.Base+delta, key, field())
		rest = after
	}
	return nil
}
