package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// A record's value: its partition, its number in the partition, its size, and bytes that follow from the three.
const payloadHeadBytes = 4 + 8 + 4

// payload makes the value of a record. size is at least payloadHeadBytes.
func payload(partition int32, number, size int) []byte {
	b := make([]byte, size+7)
	binary.BigEndian.PutUint32(b, uint32(partition))
	binary.BigEndian.PutUint64(b[4:], uint64(number))
	binary.BigEndian.PutUint32(b[12:], uint32(size))
	source := rand.NewPCG(uint64(partition), uint64(number))
	for at := payloadHeadBytes; at < size; at += 8 {
		binary.BigEndian.PutUint64(b[at:], source.Uint64())
	}
	return b[:size]
}

// readPayload returns the number of a value, whose every byte must be what payload has made.
func readPayload(partition int32, value []byte) (number int, err error) {
	if len(value) < payloadHeadBytes {
		return 0, fmt.Errorf("a value of %d bytes", len(value))
	}
	number = int(binary.BigEndian.Uint64(value[4:]))
	if !bytes.Equal(value, payload(partition, number, len(value))) {
		return 0, fmt.Errorf("a value of %d bytes that says number %d has other bytes than were produced", len(value), number)
	}
	return number, nil
}
