package seglog

import (
	"errors"
	"fmt"
	"io"

	"cairn/engine/broker/batch"
	"cairn/platform/vfs"
)

// chunkSize is how many bytes of log a look-up reads at a time: about one index interval. scanSize is for long walks.
const (
	chunkSize = 4 << 10
	scanSize  = 64 << 10
)

// batchReader walks the batches of a range of a log file by their headers. It reads in chunks, and skips the records of
// a batch that is longer than a chunk.
type batchReader struct {
	f        vfs.File
	pos, end int64 // of the present batch before next, and of the range
	size     int64 // of the present batch
	h        batch.Header
	buf      []byte
	bufAt    int64 // position of buf[0] in the file
	bufLen   int
}

func newBatchReader(f vfs.File, pos, end int64, buf []byte) batchReader {
	return batchReader{f: f, pos: pos, end: end, buf: buf}
}

// errDamaged wraps what is wrong with the bytes, as against what the file system says.
var errDamaged = errors.New("damaged")

// next moves to the next batch. It returns false at the end of the range. An error that is errDamaged means that the bytes
// at pos are no whole batch.
func (r *batchReader) next() (bool, error) {
	r.pos += r.size
	r.size = 0
	if r.pos >= r.end {
		return false, nil
	}
	if r.end-r.pos < batch.HeaderSize {
		return false, fmt.Errorf("%w: %d bytes are no header", errDamaged, r.end-r.pos)
	}
	b, err := r.bytes(batch.HeaderSize)
	if err != nil {
		return false, err
	}
	r.h, err = batch.Parse(b)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if int64(r.h.Size()) > r.end-r.pos {
		return false, fmt.Errorf("%w: batch of %d bytes, %d left", errDamaged, r.h.Size(), r.end-r.pos)
	}
	r.size = int64(r.h.Size())
	return true, nil
}

// bytes returns n bytes at pos, from the buffer if they are there. n is at most the buffer's length.
func (r *batchReader) bytes(n int) ([]byte, error) {
	at := r.pos - r.bufAt
	if at >= 0 && at+int64(n) <= int64(r.bufLen) {
		return r.buf[at : at+int64(n)], nil
	}
	want := int(min(int64(len(r.buf)), r.end-r.pos))
	got, err := r.f.ReadAt(r.buf[:want], r.pos)
	r.bufAt, r.bufLen = r.pos, got
	if got >= n {
		return r.buf[:n], nil
	}
	if err == nil || err == io.EOF {
		return nil, fmt.Errorf("%w: file ends at %d", errDamaged, r.pos+int64(got))
	}
	return nil, err
}

// verify computes the present batch's CRC, reading it in pieces: a length that lies costs no memory.
func (r *batchReader) verify() error {
	pos, size := r.pos, r.size
	crc := uint32(0)
	end := pos + size
	// The pieces go through the buffer by moving pos; it is put back.
	defer func() { r.pos = pos }()
	for r.pos = pos + batch.ChecksumStart; r.pos < end; {
		b, err := r.piece(end)
		if err != nil {
			return err
		}
		crc = batch.UpdateChecksum(crc, b)
		r.pos += int64(len(b))
	}
	if crc != r.h.CRC {
		return fmt.Errorf("%w: CRC %08x, computed %08x", errDamaged, r.h.CRC, crc)
	}
	return nil
}

// piece returns as many bytes from pos on as the buffer has or can take, before end.
func (r *batchReader) piece(end int64) ([]byte, error) {
	at := r.pos - r.bufAt
	if at < 0 || at >= int64(r.bufLen) {
		if _, err := r.bytes(1); err != nil {
			return nil, err
		}
		at = 0
	}
	return r.buf[at : at+min(int64(r.bufLen)-at, end-r.pos)], nil
}

// whole reads the whole present batch into dst, which is grown if needed; size is bounded by what the file holds.
func (r *batchReader) whole(dst []byte) ([]byte, error) {
	if int64(cap(dst)) < r.size {
		dst = make([]byte, r.size)
	}
	dst = dst[:r.size]
	if err := readFull(r.f, dst, r.pos); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
		return nil, err
	}
	return dst, nil
}
