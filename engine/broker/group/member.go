package group

import (
	"bytes"
	"slices"
	"time"
)

// member is one member of a group (ClassicGroupMember).
type member struct {
	id                   string
	instance             *string // nil for a dynamic member
	clientID, clientHost string
	session, rebalance   time.Duration
	protocols            []Protocol // without repeated names
	assignment           []byte
	// isNew is set until the member's first rebalance is complete: it cannot send heartbeats yet, because it does not
	// know its id, so waiting does not keep it alive beyond newMemberJoinTimeout.
	isNew bool
	// join and sync are the member's parked requests, 0 when none waits.
	join, sync Ticket
	// deadline is when the member's session ends, 0 when it does not.
	deadline time.Duration
	bytes    int
}

// waits reports whether the member has a parked request, which keeps its session.
func (m *member) waits() bool { return m.join != 0 || m.sync != 0 }

// metadata is the member's metadata for a protocol; nil if it does not know it.
func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			if p.Metadata == nil {
				return []byte{}
			}
			return p.Metadata
		}
	}
	return nil
}

// matches reports whether a join brings nothing new.
func (m *member) matches(protocols []Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// Rough sizes in memory, in bytes, that are added to the lengths of names and metadata.
const (
	groupBytes    = 600
	memberBytes   = 500
	protocolBytes = 120
	offsetBytes   = 160
	topicBytes    = 200
	pendingBytes  = 150
)

// size is about what the member takes in memory.
func (m *member) size() int {
	n := memberBytes + 2*len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.assignment) + protocolsSize(m.protocols)
	if m.instance != nil {
		n += 2 * len(*m.instance)
	}
	return n
}

func protocolsSize(protocols []Protocol) int {
	n := 0
	for _, p := range protocols {
		n += protocolBytes + len(p.Name) + len(p.Metadata)
	}
	return n
}

// withoutRepeats drops protocols whose name came before: a vote counts once.
func withoutRepeats(protocols []Protocol) []Protocol {
	seen := make(map[string]struct{}, len(protocols))
	kept := make([]Protocol, 0, len(protocols))
	for _, p := range protocols {
		if _, ok := seen[p.Name]; !ok {
			seen[p.Name] = struct{}{}
			kept = append(kept, p)
		}
	}
	return kept
}
