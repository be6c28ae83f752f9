package zkserver

import (
	"bufio"
	"io"
	"sync"
)

// pooledBytes is the capacity of buffers that are kept for the next frame; longer ones go back to the collector, so that
// a rare large frame does not stay.
const pooledBytes = 8 << 10

var frames = sync.Pool{New: func() any { b := make([]byte, 0, pooledBytes); return &b }}

func takeFrame() []byte { return (*frames.Get().(*[]byte))[:0] }

// giveFrame takes a buffer back. Nothing may refer to it any more.
func giveFrame(b []byte) {
	if cap(b) < pooledBytes || cap(b) > 4*pooledBytes {
		return
	}
	b = b[:0]
	frames.Put(&b)
}

// readFrame reads length bytes into buf, which it may replace. Memory is taken as bytes arrive, four times what is there
// at the most: a length alone, however large, costs nothing.
func readFrame(r *bufio.Reader, buf []byte, length int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < length {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(max(4*cap(buf), pooledBytes), max(length, pooledBytes)))
			copy(grown, buf)
			buf = grown
		}
		end := min(cap(buf), length)
		n, err := io.ReadFull(r, buf[len(buf):end])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}
