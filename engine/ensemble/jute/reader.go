package jute

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every decoding error: the bytes are not the record that they were read as.
var ErrMalformed = errors.New("malformed jute")

// Frame length rules of BinaryInputArchive and NIOServerCnxn.
const (
	// MaxBufferDefault is ZooKeeper's default of jute.maxbuffer: the largest packet, in bytes without its length.
	MaxBufferDefault = 0xfffff
	// MultiOpsMax bounds the operations of one multi. ZooKeeper has no such bound besides the frame's length; the
	// bound keeps a frame of tiny operations from growing to many times its size in memory.
	MultiOpsMax = 1 << 15
)

// CheckFrame tells whether a packet may have this length: ZooKeeper closes the connection, without an answer, when it
// is negative or above jute.maxbuffer.
func CheckFrame(length int32, maxBuffer int) error {
	if length < 0 || int64(length) > int64(maxBuffer) {
		return fmt.Errorf("%w: packet of %d bytes, jute.maxbuffer is %d", ErrMalformed, length, maxBuffer)
	}
	return nil
}

// Reader decodes primitives from a frame. Its error is sticky: after the first one every method returns zero values,
// so that a record is read whole and asked once.
type Reader struct {
	b   []byte
	off int
	err error
}

// NewReader reads from b, which it borrows.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Reset makes the reader start over on b.
func (r *Reader) Reset(b []byte) { *r = Reader{b: b} }

// Err is the first error, or nil.
func (r *Reader) Err() error { return r.err }

// Remaining is the number of bytes that were not read.
func (r *Reader) Remaining() int { return len(r.b) - r.off }

// Offset is the number of bytes that were read.
func (r *Reader) Offset() int { return r.off }

// Rest returns the bytes that were not read, borrowed, without reading them.
func (r *Reader) Rest() []byte { return r.b[r.off:] }

// Fail makes err the reader's error unless it has one.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s at byte %d of %d", ErrMalformed, fmt.Sprintf(format, args...), r.off, len(r.b))
	}
}

func (r *Reader) take(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n > r.Remaining() {
		r.Fail("%s of %d bytes, %d remain", what, n, r.Remaining())
		return nil
	}
	b := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

// Int32 reads an int.
func (r *Reader) Int32() int32 {
	b := r.take(4, "int")
	if b == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(b))
}

// Int64 reads a long.
func (r *Reader) Int64() int64 {
	b := r.take(8, "long")
	if b == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// Bool reads a boolean: any byte but zero is true, as in Java's DataInput.
func (r *Reader) Bool() bool {
	b := r.take(1, "boolean")
	return b != nil && b[0] != 0
}

// Buffer reads a buffer, borrowed from the frame; nil is the null buffer, which is not the empty one.
func (r *Reader) Buffer() []byte {
	n := r.Int32()
	if r.err != nil || n == -1 {
		return nil
	}
	if n < 0 {
		r.Fail("buffer of length %d", n)
		return nil
	}
	return r.take(int(n), "buffer")
}

// String reads a ustring into a copy. The null string reads as the empty one: no record of the protocol tells them
// apart in what it asks.
func (r *Reader) String() string { return string(r.Buffer()) }

// Count reads the count of a vector whose elements take at least elementMin bytes each, so that the count can be
// allocated from. It returns -1 for the null vector, and 0 after an error.
func (r *Reader) Count(elementMin int) int {
	n := r.Int32()
	switch {
	case r.err != nil:
		return 0
	case n == -1:
		return -1
	case n < 0:
		r.Fail("vector of %d elements", n)
		return 0
	case int64(n)*int64(elementMin) > int64(r.Remaining()):
		r.Fail("vector of %d elements of at least %d bytes, %d bytes remain", n, elementMin, r.Remaining())
		return 0
	}
	return int(n)
}

// Strings reads a vector of ustring; nil is the null vector.
func (r *Reader) Strings() []string {
	n := r.Count(4)
	if n < 0 || r.err != nil {
		return nil
	}
	s := make([]string, n)
	for i := range s {
		s[i] = r.String()
	}
	if r.err != nil {
		return nil
	}
	return s
}
