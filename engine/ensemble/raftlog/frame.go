package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Entry is one entry of the raft log.
type Entry struct {
	Index, Term uint64
	// Type is the raft library's entry type, carried and not looked at.
	Type uint8
	// Data is borrowed by Append until it returns, and owned by the receiver when it comes from recovery.
	Data []byte
}

// HardState is what a voter must not forget: its term, its vote in it, and how far it knows the log to be committed.
type HardState struct{ Term, Vote, Commit uint64 }

// ConfState is the membership that the applied log amounts to.
type ConfState struct {
	Voters, Learners, VotersOutgoing, LearnersNext []uint64
	AutoLeave                                      bool
}

// Clone returns a copy that shares no memory.
func (c ConfState) Clone() ConfState {
	c.Voters, c.Learners = slices.Clone(c.Voters), slices.Clone(c.Learners)
	c.VotersOutgoing, c.LearnersNext = slices.Clone(c.VotersOutgoing), slices.Clone(c.LearnersNext)
	return c
}

// kind tells the records of the log apart.
type kind uint8

const (
	kindEntry     kind = 1 // index, term; payload: the entry's data; sub: the entry's type
	kindHardState kind = 2 // index: commit, term; payload: vote, 8 bytes
	kindMarker    kind = 3 // index, term of a snapshot that is durable; no payload
	kindConfState kind = 4 // the membership that the log begins with; payload: an encoded ConfState
)

// Every frame begins with magic, which is not zero: a zero-filled tail cannot look like a frame.
const (
	frameMagic   = 0xC7
	frameVersion = 1
	headerBytes  = 40
	// membersMax bounds the members of one configuration; a length is checked against it before anything is allocated.
	membersMax = 1024
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is one decoded record. Payload aliases the bytes that it was decoded from.
type frame struct {
	kind    kind
	sub     uint8
	delta   uint32 // seq minus the first seq of the write that it was part of
	seq     uint64 // the record's place in the log's own sequence, from 1
	term    uint64
	index   uint64
	payload []byte
}

// batchFirst is the sequence of the first record that was written together with this one. Everything before it was
// durable before this record was written.
func (f *frame) batchFirst() uint64 { return f.seq - uint64(f.delta) }

// appendFrame appends the frame with delta and checksum still zero; seal fills them in.
func appendFrame(dst []byte, f *frame) []byte {
	var h [headerBytes]byte
	h[0], h[1], h[2], h[3] = frameMagic, byte(f.kind), f.sub, frameVersion
	binary.BigEndian.PutUint32(h[8:], uint32(len(f.payload)))
	binary.BigEndian.PutUint64(h[16:], f.seq)
	binary.BigEndian.PutUint64(h[24:], f.term)
	binary.BigEndian.PutUint64(h[32:], f.index)
	return append(append(dst, h[:]...), f.payload...)
}

// seal writes delta and checksum into an appended frame.
func seal(b []byte, delta uint32) {
	binary.BigEndian.PutUint32(b[12:], delta)
	binary.BigEndian.PutUint32(b[4:], checksum(b))
}

// checksum covers the whole frame but the checksum's own four bytes.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:])
}

var errFrame = errors.New("not a frame")

// decodeFrame reads the frame at the start of b, which may be longer. It allocates nothing.
func decodeFrame(b []byte) (frame, error) {
	if len(b) < headerBytes {
		return frame{}, fmt.Errorf("%w: %d bytes are less than a header", errFrame, len(b))
	}
	if b[0] != frameMagic || b[3] != frameVersion {
		return frame{}, fmt.Errorf("%w: it begins with %#02x and has version %d", errFrame, b[0], b[3])
	}
	n := uint64(binary.BigEndian.Uint32(b[8:]))
	if n > uint64(len(b)-headerBytes) {
		return frame{}, fmt.Errorf("%w: a payload of %d bytes where %d are left", errFrame, n, len(b)-headerBytes)
	}
	b = b[:headerBytes+int(n)]
	if sum := binary.BigEndian.Uint32(b[4:]); sum != checksum(b) {
		return frame{}, fmt.Errorf("%w: checksum %#08x, computed %#08x", errFrame, sum, checksum(b))
	}
	f := frame{
		kind: kind(b[1]), sub: b[2],
		delta:   binary.BigEndian.Uint32(b[12:]),
		seq:     binary.BigEndian.Uint64(b[16:]),
		term:    binary.BigEndian.Uint64(b[24:]),
		index:   binary.BigEndian.Uint64(b[32:]),
		payload: b[headerBytes:],
	}
	if f.kind < kindEntry || f.kind > kindConfState || f.seq == 0 || uint64(f.delta) >= f.seq {
		return frame{}, fmt.Errorf("%w: kind %d, sequence %d, delta %d", errFrame, f.kind, f.seq, f.delta)
	}
	return f, nil
}

// encodeConfState: AutoLeave (1 byte), then four lists, each a count (4 bytes) and its members (8 bytes each).
func encodeConfState(c ConfState) []byte {
	b := []byte{0}
	if c.AutoLeave {
		b[0] = 1
	}
	for _, list := range [][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for _, id := range list {
			b = binary.BigEndian.AppendUint64(b, id)
		}
	}
	return b
}

func decodeConfState(b []byte) (ConfState, error) {
	var c ConfState
	if len(b) < 1 || b[0] > 1 {
		return c, fmt.Errorf("a membership of %d bytes", len(b))
	}
	c.AutoLeave = b[0] == 1
	b = b[1:]
	for _, list := range []*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
		if len(b) < 4 {
			return c, errors.New("a membership that ends early")
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		if n > membersMax || uint64(n)*8 > uint64(len(b)) {
			return c, fmt.Errorf("a membership list of %d", n)
		}
		for range n {
			*list = append(*list, binary.BigEndian.Uint64(b))
			b = b[8:]
		}
	}
	if len(b) != 0 {
		return c, fmt.Errorf("%d bytes after a membership", len(b))
	}
	return c, nil
}
