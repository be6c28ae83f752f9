package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Opener unpacks the records of compressed batches. It keeps its decoders and one buffer between calls, so whoever opens
// many batches keeps an Opener. It is not for concurrent use. The zero value is ready.
type Opener struct {
	buf  []byte
	src  bytes.Reader
	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
	// zstdMax is the bound that the zstd decoder was made with.
	zstdMax int
}

// keepMax is the largest buffer, in bytes, that an Opener keeps for the next batch.
const keepMax = 1 << 20

// Records returns the uncompressed records of one whole batch with header h: the batch's own bytes if it is not compressed,
// otherwise the Opener's buffer, valid until its next call. At most bytesMax are unpacked, whatever the compressed bytes claim:
// memory grows with what has really been unpacked. Errors: ErrTooLarge, ErrCodec, ErrTruncated.
func (o *Opener) Records(h *Header, b []byte, bytesMax int) ([]byte, error) {
	if len(b) < h.Size() {
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), h.Size())
	}
	packed := b[HeaderSize:h.Size()]
	codec := h.Attributes.Codec()
	if codec == None {
		return packed, nil
	}
	if cap(o.buf) > keepMax {
		o.buf = nil
	}
	o.src.Reset(packed)
	var out []byte
	var err error
	switch codec {
	case Gzip:
		out, err = o.openGzip(bytesMax)
	case Snappy:
		out, err = o.openSnappy(packed, bytesMax)
	case LZ4:
		out, err = o.openLZ4(bytesMax)
	case Zstd:
		out, err = o.openZstd(bytesMax)
	default:
		err = fmt.Errorf("codec %d", codec)
	}
	o.src.Reset(nil)
	if err != nil {
		if errors.Is(err, ErrTooLarge) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %v: %w", ErrCodec, codec, err)
	}
	o.buf = out
	return out, nil
}

// drain reads r to its end into the Opener's buffer, growing it by what has arrived.
func (o *Opener) drain(r io.Reader, bytesMax int) ([]byte, error) {
	out := o.buf[:0]
	if cap(out) == 0 {
		out = make([]byte, 0, min(16<<10, bytesMax+1))
	}
	for {
		if len(out) > bytesMax {
			return nil, tooLarge(bytesMax)
		}
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if err == io.EOF {
			if len(out) > bytesMax {
				return nil, tooLarge(bytesMax)
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func tooLarge(bytesMax int) error {
	return fmt.Errorf("%w: unpacks to more than %d bytes", ErrTooLarge, bytesMax)
}

func (o *Opener) openGzip(bytesMax int) ([]byte, error) {
	if o.gzip == nil {
		r, err := gzip.NewReader(&o.src)
		if err != nil {
			return nil, err
		}
		o.gzip = r
	} else if err := o.gzip.Reset(&o.src); err != nil {
		return nil, err
	}
	return o.drain(o.gzip, bytesMax)
}

func (o *Opener) openLZ4(bytesMax int) ([]byte, error) {
	if o.lz4 == nil {
		o.lz4 = lz4.NewReader(&o.src)
	} else {
		o.lz4.Reset(&o.src)
	}
	return o.drain(o.lz4, bytesMax)
}

// zstdWindowMax is the largest window, in bytes, for which the zstd decoder may be made to allocate: the 8 MiB that the format asks
// of every decoder.
const zstdWindowMax = 8 << 20

func (o *Opener) openZstd(bytesMax int) ([]byte, error) {
	if o.zstd == nil || o.zstdMax != bytesMax {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(max(min(bytesMax, zstdWindowMax), zstd.MinWindowSize))))
		if err != nil {
			return nil, err
		}
		o.zstd, o.zstdMax = d, bytesMax
	}
	if err := o.zstd.Reset(&o.src); err != nil {
		return nil, err
	}
	out, err := o.drain(o.zstd, bytesMax)
	if resetErr := o.zstd.Reset(nil); err == nil && resetErr != nil {
		err = resetErr
	}
	return out, err
}

// xerialMagic begins the framing of snappy-java, which Kafka's Java clients write: the magic, version and lowest compatible
// version as int32, then blocks, each with its length as int32. Other clients write one bare block; readers take both.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderSize = 16

func (o *Opener) openSnappy(packed []byte, bytesMax int) ([]byte, error) {
	out := o.buf[:0]
	if !bytes.HasPrefix(packed, xerialMagic) {
		return appendSnappy(out, packed, bytesMax)
	}
	if len(packed) < xerialHeaderSize {
		return nil, fmt.Errorf("%w: xerial header", ErrTruncated)
	}
	packed = packed[xerialHeaderSize:]
	for len(packed) > 0 {
		if len(packed) < 4 {
			return nil, fmt.Errorf("%w: xerial block length", ErrTruncated)
		}
		n := binary.BigEndian.Uint32(packed)
		packed = packed[4:]
		if uint64(n) > uint64(len(packed)) {
			return nil, fmt.Errorf("%w: xerial block of %d bytes in %d", ErrTruncated, n, len(packed))
		}
		var err error
		if out, err = appendSnappy(out, packed[:n], bytesMax); err != nil {
			return nil, err
		}
		packed = packed[n:]
	}
	return out, nil
}

// snappyRatioMax is more than the format can shrink anything: a copy of 64 bytes takes 3. A block that claims more lies, and is not
// given the memory that it asks for.
const snappyRatioMax = 64

func appendSnappy(out, block []byte, bytesMax int) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > bytesMax-len(out) {
		return nil, tooLarge(bytesMax)
	}
	if n > len(block)*snappyRatioMax {
		return nil, fmt.Errorf("block of %d bytes claims to hold %d", len(block), n)
	}
	if cap(out)-len(out) < n {
		grown := make([]byte, len(out), max(len(out)+n, min(2*cap(out), bytesMax)))
		copy(grown, out)
		out = grown
	}
	decoded, err := snappy.Decode(out[len(out):len(out)+n], block)
	if err != nil {
		return nil, err
	}
	if len(decoded) != n {
		return nil, fmt.Errorf("block of %d bytes holds %d, claims %d", len(block), len(decoded), n)
	}
	return out[:len(out)+n], nil
}
