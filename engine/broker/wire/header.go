package wire

import (
	"encoding/binary"
	"fmt"
)

// Keys of the APIs that the framing itself treats apart.
const (
	KeyProduce            = 0
	KeyFetch              = 1
	KeyControlledShutdown = 7
	KeyApiVersions        = 18
)

// Header is a request header.
type Header struct {
	Key         int16
	Version     int16
	Correlation int32
	// ClientID is nil when the client sent null. It is borrowed from the frame.
	ClientID []byte
}

// ParseRoute reads what stands in front of every header version: key, version and correlation id. b has at least
// HeaderMin bytes.
func ParseRoute(b []byte) Header {
	return Header{
		Key:         int16(binary.BigEndian.Uint16(b)),
		Version:     int16(binary.BigEndian.Uint16(b[2:])),
		Correlation: int32(binary.BigEndian.Uint32(b[4:])),
	}
}

// ParseHeader reads the header of a request whose key and version are served and returns the body behind it. Header
// version 1 ends with the client id, a string that may be null and that stays non-compact in version 2, which adds
// tags; they are skipped. flexible says that the body, and therefore the header, has tags (KIP-482).
func ParseHeader(b []byte, flexible bool) (Header, []byte, error) {
	if len(b) < HeaderMin {
		return Header{}, nil, fmt.Errorf("%w: %d bytes", ErrHeader, len(b))
	}
	h := ParseRoute(b)
	b = b[HeaderMin:]
	if len(b) < 2 {
		return h, nil, fmt.Errorf("%w: key %d version %d: no client id", ErrHeader, h.Key, h.Version)
	}
	n := int16(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n < -1 || int(n) > len(b) {
		return h, nil, fmt.Errorf("%w: key %d version %d: client id of %d bytes in %d", ErrHeader, h.Key, h.Version, n, len(b))
	}
	if n >= 0 {
		h.ClientID, b = b[:n:n], b[n:]
	}
	if flexible {
		s := scanner{b: b}
		s.skipTags()
		if s.bad != "" {
			return h, nil, fmt.Errorf("%w: key %d version %d: %s", ErrHeader, h.Key, h.Version, s.bad)
		}
		b = s.b
	}
	return h, b, nil
}
