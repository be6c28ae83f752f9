package seglog

import (
	"encoding/base64"
	"fmt"
)

// ID is Kafka's Uuid: of a topic (KIP-516) or of a log directory (KIP-858). Its text is base64 for URLs without padding.
type ID [16]byte

// IsZero reports whether the ID is Kafka's Uuid.ZERO_UUID, which stands for "none".
func (id ID) IsZero() bool { return id == ID{} }

// String is the ID as Kafka writes it, 22 characters.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 22 {
		return id, fmt.Errorf("id %q has %d characters, want 22", s, len(s))
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return id, fmt.Errorf("id %q: %w", s, err)
	}
	copy(id[:], b)
	return id, nil
}
