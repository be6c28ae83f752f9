package zkdata

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"

	"cairn/engine/ensemble/jute"
)

// ErrDamaged is wrapped by every error that says that a file is not what a ZooKeeper wrote.
var ErrDamaged = errors.New("damaged ZooKeeper data")

// ErrTooLarge is wrapped by the error for a file that takes more memory than the caller allows.
var ErrTooLarge = errors.New("ZooKeeper data too large")

// bufferBytesMax is the longest string or buffer that is read: far more than any jute.maxbuffer that people set.
const bufferBytesMax = 256 << 20

// source reads jute from a stream, with its checksum. Its error is sticky. No length is believed before the bytes that it
// speaks of are there.
type source struct {
	r    *bufio.Reader
	at   int64
	sum  rollingSum
	left int64 // bytes that may still be kept
	err  error
	buf  bytes.Buffer
}

// rollingSum is Adler32, as java.util.zip.Adler32 has it.
type rollingSum interface {
	io.Writer
	Sum32() uint32
}

func newSource(r io.Reader, bytesMax int64) *source {
	return &source{r: bufio.NewReaderSize(r, 64<<10), sum: adler32.New(), left: bytesMax}
}

func (s *source) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %s at byte %d", ErrDamaged, fmt.Sprintf(format, args...), s.at)
	}
}

// spend takes from what may be kept.
func (s *source) spend(n int64) {
	if s.left -= n; s.left < 0 && s.err == nil {
		s.err = fmt.Errorf("%w: more than is allowed at byte %d", ErrTooLarge, s.at)
	}
}

// fixed reads n bytes, at most 16, borrowed until the next call.
func (s *source) fixed(n int) []byte {
	var room [16]byte
	b := room[:n]
	if s.err != nil {
		return b
	}
	got, err := io.ReadFull(s.r, b)
	s.at += int64(got)
	if err != nil {
		s.cut(err)
		clear(b)
		return b
	}
	_, _ = s.sum.Write(b) // never fails
	return b
}

func (s *source) cut(err error) {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		s.fail("it is cut short")
	} else if s.err == nil {
		s.err = fmt.Errorf("read byte %d: %w", s.at, err)
	}
}

func (s *source) int32() int32 { return int32(binary.BigEndian.Uint32(s.fixed(4))) }
func (s *source) int64() int64 { return int64(binary.BigEndian.Uint64(s.fixed(8))) }

// buffer reads a buffer into a copy; nil is null.
func (s *source) buffer() []byte {
	n := s.int32()
	if s.err != nil || n == -1 {
		return nil
	}
	if n < 0 || n > bufferBytesMax {
		s.fail("a length of %d", n)
		return nil
	}
	s.spend(int64(n))
	if s.err != nil {
		return nil
	}
	s.buf.Reset()
	got, err := io.CopyN(&s.buf, s.r, int64(n))
	s.at += got
	if err != nil {
		s.cut(err)
		return nil
	}
	b := bytes.Clone(s.buf.Bytes())
	if b == nil {
		b = []byte{}
	}
	_, _ = s.sum.Write(b) // never fails
	if s.buf.Cap() > 1<<20 {
		s.buf = bytes.Buffer{} // a rare long one is not kept
	}
	return b
}

func (s *source) string() string { return string(s.buffer()) }

// acls reads a list, element by element.
func (s *source) acls() []jute.ACL {
	n := s.int32()
	if n < 0 {
		s.fail("a list of %d ACLs", n)
	}
	var acls []jute.ACL
	for ; n > 0 && s.err == nil; n-- {
		acls = append(acls, jute.ACL{Perms: s.int32(), ID: jute.ID{Scheme: s.string(), ID: s.string()}})
		s.spend(aclBytes)
	}
	return acls
}

// What the memory of an element is, besides its bytes.
const (
	nodeBytes = 256
	aclBytes  = 64
)
