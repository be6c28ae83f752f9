package batch

import "fmt"

// Codec names the compression of a batch's records.
type Codec uint8

// The codecs, with Kafka's numbers.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Known reports whether the number is one of Kafka's codecs.
func (c Codec) Known() bool { return c <= Zstd }

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is Kafka's name of the codec.
func (c Codec) String() string {
	if !c.Known() {
		return fmt.Sprintf("codec(%d)", uint8(c))
	}
	return codecNames[c]
}

// ParseCodec finds a codec by Kafka's name.
func ParseCodec(name string) (Codec, bool) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), true
		}
	}
	return None, false
}
