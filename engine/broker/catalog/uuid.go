package catalog

import (
	"encoding/base64"
	"fmt"
	"io"
)

// UUID is a topic id or a directory id. Its text is Kafka's: 22 characters of URL-safe base64 without padding
// (org.apache.kafka.common.Uuid).
type UUID [16]byte

// Reserved ids: zero means none, one was the metadata topic's, and directory ids below 100 have meanings
// (DirectoryId.java: lost, unassigned, migrating).
var (
	ZeroUUID = UUID{}
	oneUUID  = UUID{15: 1}
)

// String is Kafka's text of the id.
func (u UUID) String() string { return base64.RawURLEncoding.EncodeToString(u[:]) }

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// IsZero reports whether the id is the reserved "none".
func (u UUID) IsZero() bool { return u == ZeroUUID }

// Reserved reports whether Kafka gives the id a meaning of its own: the first hundred (DirectoryId.RESERVED).
func (u UUID) Reserved() bool {
	for _, b := range u[:15] {
		if b != 0 {
			return false
		}
	}
	return u[15] < 100
}

// ParseUUID reads Kafka's text of an id.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) > 24 {
		return u, fmt.Errorf("id %.24q… is longer than the 22 characters of an id", s)
	}
	b, err := base64.RawURLEncoding.DecodeString(trimPadding(s))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("%q is not an id of 16 bytes in base64url", s)
	}
	copy(u[:], b)
	return u, nil
}

func trimPadding(s string) string {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	return s
}

// NewUUID draws a random id (RFC 4122 version 4) as Kafka does: never a reserved one, and never one whose text begins
// with '-', which command-line tools would take for a flag.
func NewUUID(random io.Reader) (UUID, error) {
	for range 64 {
		var u UUID
		if _, err := io.ReadFull(random, u[:]); err != nil {
			return ZeroUUID, fmt.Errorf("draw an id: %w", err)
		}
		u[6] = u[6]&0x0f | 0x40
		u[8] = u[8]&0x3f | 0x80
		if u.Reserved() || u == oneUUID || u.String()[0] == '-' {
			continue
		}
		return u, nil
	}
	return ZeroUUID, fmt.Errorf("draw an id: the source of randomness repeats itself")
}
