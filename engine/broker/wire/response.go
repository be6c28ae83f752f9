package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AppendResponse appends a whole response frame to dst: length, correlation id, the tags of response header v1 where
// the body is flexible, body. ApiVersions always has response header v0, because its client does not know yet what the
// server understands (KIP-511).
func AppendResponse(dst []byte, correlation int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = appendResponseHeader(dst, correlation, resp.IsFlexible() && resp.Key() != KeyApiVersions)
	dst = resp.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendResponseHeader appends a length of zero, to be filled in, and the header.
func appendResponseHeader(dst []byte, correlation int32, tags bool) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlation))
	if tags {
		dst = append(dst, 0)
	}
	return dst
}

// ResponseLengthMax is the longest response that the length in front of it can tell.
const ResponseLengthMax = math.MaxInt32

func checkResponseLength(n int64) error {
	if n > ResponseLengthMax {
		return fmt.Errorf("response of %d bytes does not fit its length field", n)
	}
	return nil
}
