package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Errors of taking requests apart. All of them end the connection: what follows on it cannot be trusted.
var (
	// ErrFrame means a length that no frame may have.
	ErrFrame = errors.New("invalid frame length")
	// ErrHeader means a request header that cannot be parsed.
	ErrHeader = errors.New("invalid request header")
	// ErrBody means a request body that is not what its API and version say, or that would cost more than its size.
	ErrBody = errors.New("invalid request body")
)

// HeaderMin is the least length of a frame: API key, version, correlation id.
const HeaderMin = 8

// FrameLength reads the length in front of a frame and checks it against the maximum that holds now: before login a
// smaller one does. Nothing has been allocated yet.
func FrameLength(b [4]byte, bytesMax int) (int, error) {
	n := int32(binary.BigEndian.Uint32(b[:]))
	if n < HeaderMin || int64(n) > int64(bytesMax) {
		return 0, fmt.Errorf("%w: %d bytes, allowed %d to %d", ErrFrame, n, HeaderMin, bytesMax)
	}
	return int(n), nil
}

// Frame is the pooled memory of one request, after the length.
type Frame struct {
	// B is the frame: request header and body.
	B     []byte
	class int8 // index of the pool, -1 for memory that is not pooled
}

// frameClasses are the sizes in bytes of pooled frames. What is larger is allocated for the occasion and collected: a
// pool of 100 MiB buffers would keep a box's memory for one client.
var frameClasses = [...]int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1<<20 + 64<<10}

// FramePool keeps frames of a few sizes. The zero value is ready.
type FramePool struct {
	pools [len(frameClasses)]sync.Pool
}

// FrameCost is the number of bytes that Get(n) takes from the heap, which the caller counts against its budget.
func FrameCost(n int) int {
	if c := frameClass(n); c >= 0 {
		return frameClasses[c]
	}
	return n
}

func frameClass(n int) int {
	for i, size := range frameClasses {
		if n <= size {
			return i
		}
	}
	return -1
}

// Get returns a frame of n bytes with arbitrary contents.
func (p *FramePool) Get(n int) *Frame {
	c := frameClass(n)
	if c < 0 {
		return &Frame{B: make([]byte, n), class: -1}
	}
	if f, ok := p.pools[c].Get().(*Frame); ok {
		f.B = f.B[:n]
		return f
	}
	return &Frame{B: make([]byte, n, frameClasses[c]), class: int8(c)}
}

// Put gives a frame back. Nobody may look at its bytes any more.
func (p *FramePool) Put(f *Frame) {
	if f == nil || f.class < 0 {
		return
	}
	p.pools[f.class].Put(f)
}

// Fill reads the whole frame.
func (f *Frame) Fill(r io.Reader) error {
	_, err := io.ReadFull(r, f.B)
	return err
}
