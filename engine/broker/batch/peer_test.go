package batch

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What franz-go compresses we open, and what we compress franz-go opens: two implementations of each codec's framing.
func TestCodecsAgreeWithFranzGo(t *testing.T) {
	plain := bytes.Repeat([]byte("cairn keeps what it acknowledged. "), 5000)
	theirs := map[Codec]kgo.CompressionCodec{
		Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	}
	var o Opener
	for codec, c := range theirs {
		compressor, err := kgo.DefaultCompressor(c)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		packed, kind := compressor.Compress(&buf, plain)
		if Codec(kind) != codec {
			t.Fatalf("franz-go compressed with codec %d, want %v", kind, codec)
		}
		b := append(make([]byte, HeaderSize), packed...)
		h := Header{Length: int32(len(b) - PrefixSize), Attributes: Attributes(codec)}
		got, err := o.Records(&h, b, 1<<20)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v from franz-go: %d bytes, %v", codec, len(got), err)
		}
		ours, err := compress(nil, codec, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err = kgo.DefaultDecompressor().Decompress(ours, kgo.CompressionCodecType(codec))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v to franz-go: %d bytes, %v", codec, len(got), err)
		}
	}
}
