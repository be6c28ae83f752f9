package quorum

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Roster says which raft id and which disk stand for which server. It lies in the tree (PathRoster), and every change of
// it is an entry, so that all boxes have the same one.
//
// A raft id is never used again: what a server has acknowledged under it lies on one disk, and a server that comes with
// another disk would vote as if it had never acknowledged it. It gets a new id, and the old one leaves.
type Roster struct {
	// Given counts the raft ids that were given after the founding: the next one's incarnation is Given+1.
	Given   uint32   `json:"given"`
	Members []Member `json:"members"`
	// Founders and FoundingLearners are the raft ids that the log begins with: whoever starts with an empty log starts
	// from them.
	Founders         []uint64 `json:"founders"`
	FoundingLearners []uint64 `json:"founding_learners,omitempty"`
	// Changed tells that somebody has changed the configuration since the founding.
	Changed bool `json:"changed,omitempty"`
}

// Member is one server's place in raft.
type Member struct {
	Server uint64 `json:"server"`
	Raft   uint64 `json:"raft"`
	// Disk is the name of the disk that acknowledges under the raft id; empty while nobody has begun under it.
	Disk string `json:"disk,omitempty"`
	// LeftMs is when the server left the configuration, in the leader's milliseconds; 0: it belongs. It is served on for a
	// while as an observer, so that its clients find time to go.
	LeftMs int64 `json:"left_ms,omitempty"`
	// Line is the server's line of the configuration that it left: where it is meanwhile.
	Line string `json:"line,omitempty"`
}

// PathRoster is the znode that holds the roster.
const PathRoster = "/cairn/members"

// RaftID joins a server's number and the incarnation that it was given. An ensemble begins with incarnation 0.
func RaftID(server uint64, incarnation uint32) uint64 {
	return uint64(incarnation)<<32 | server&0xffffffff
}

// ServerOf is the server that a raft id stands for.
func ServerOf(raft uint64) uint64 { return raft & 0xffffffff }

// IncarnationOf is the incarnation in a raft id.
func IncarnationOf(raft uint64) uint32 { return uint32(raft >> 32) }

// Found is the roster that an ensemble begins with. disks are those that are known.
func Found(voters, learners []uint64, disks map[uint64]string) Roster {
	r := Roster{Founders: voters, FoundingLearners: learners}
	for _, id := range slices.Concat(voters, learners) {
		r.Members = append(r.Members, Member{Server: ServerOf(id), Raft: id, Disk: disks[ServerOf(id)]})
	}
	r.sort()
	return r
}

// ParseRoster reads the znode's data.
func ParseRoster(data []byte) (Roster, error) {
	var r Roster
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("the roster in %s: %w", PathRoster, err)
	}
	return r, nil
}

// Marshal is the znode's data.
func (r Roster) Marshal() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return b
}

func (r *Roster) sort() {
	slices.SortFunc(r.Members, func(a, b Member) int { return int(int64(a.Server) - int64(b.Server)) })
}

// Clone is a copy that can be changed.
func (r Roster) Clone() Roster {
	r.Members = slices.Clone(r.Members)
	return r
}

// Member is the place of a server.
func (r Roster) Member(server uint64) (Member, bool) {
	for _, m := range r.Members {
		if m.Server == server {
			return m, true
		}
	}
	return Member{}, false
}

// Has tells whether a raft id stands for a server.
func (r Roster) Has(raft uint64) bool {
	m, ok := r.Member(ServerOf(raft))
	return ok && m.Raft == raft
}

func (r *Roster) set(m Member) {
	for i := range r.Members {
		if r.Members[i].Server == m.Server {
			r.Members[i] = m
			return
		}
	}
	r.Members = append(r.Members, m)
	r.sort()
}

// give is a new raft id for a server.
func (r *Roster) give(server uint64) uint64 {
	r.Given++
	return RaftID(server, r.Given)
}

// Follow is the roster for a configuration that changed from was: new servers get a raft id, those that are not in it any
// more leave.
func (r Roster) Follow(was, c Config, nowMs int64) Roster {
	r = r.Clone()
	r.Changed = true
	for _, s := range c.Servers {
		m, ok := r.Member(uint64(s.ID))
		if !ok {
			m = Member{Server: uint64(s.ID)}
			m.Raft = r.give(m.Server)
		}
		m.LeftMs, m.Line = 0, ""
		r.set(m)
	}
	for _, m := range r.Members {
		if _, ok := c.Server(int64(m.Server)); !ok && m.LeftMs == 0 {
			m.LeftMs = max(nowMs, 1)
			if s, ok := was.Server(int64(m.Server)); ok {
				m.Line = s.Text()
			}
			r.set(m)
		}
	}
	return r
}

// WithLeavers is the configuration and those that have left it and are still served.
func (r Roster) WithLeavers(c Config) Config {
	c.Servers = slices.Clone(c.Servers)
	for _, m := range r.Members {
		if m.LeftMs == 0 {
			continue
		}
		if s, err := ParseServer(int64(m.Server), m.Line, true); err == nil {
			c.Servers = append(c.Servers, s)
		}
	}
	return c
}

// Claim notes which disk acknowledges under a raft id.
func (r Roster) Claim(raft uint64, disk string) (Roster, bool) {
	m, ok := r.Member(ServerOf(raft))
	if !ok || m.Raft != raft || m.Disk != "" || disk == "" {
		return r, false
	}
	r = r.Clone()
	m.Disk = disk
	r.set(m)
	return r, true
}

// Replace gives a server a new raft id for a new disk.
func (r Roster) Replace(server uint64, disk string) Roster {
	r = r.Clone()
	m, _ := r.Member(server)
	m.Server, m.Disk = server, disk
	m.Raft = r.give(server)
	r.set(m)
	return r
}

// Alone is the roster of a recovery: every server of the configuration has a new raft id, and nobody has begun under it.
func (r Roster) Alone(c Config) Roster {
	next := Roster{Given: r.Given, Changed: true, Founders: r.Founders, FoundingLearners: r.FoundingLearners}
	for _, s := range c.Servers {
		m := Member{Server: uint64(s.ID)}
		m.Raft = next.give(m.Server)
		next.set(m)
	}
	return next
}

// Forget drops the members that left at or before a time.
func (r Roster) Forget(leftMs int64) (Roster, bool) {
	gone := func(m Member) bool { return m.LeftMs != 0 && m.LeftMs <= leftMs }
	if !slices.ContainsFunc(r.Members, gone) {
		return r, false
	}
	r = r.Clone()
	r.Members = slices.DeleteFunc(r.Members, gone)
	return r, true
}
