package quorum

import "slices"

// Membership is raft's: who votes and who only listens.
type Membership struct {
	Voters, Learners []uint64
}

// Step is one change of raft's membership. All of it happens at once, by joint consensus where it is more than one voter.
type Step struct {
	Promote  []uint64 // learners that vote from now on
	Demote   []uint64 // voters that listen from now on
	Learners []uint64 // raft ids that begin to listen
	Remove   []uint64
}

// Empty tells whether there is nothing to do.
func (s Step) Empty() bool {
	return len(s.Promote)+len(s.Demote)+len(s.Learners)+len(s.Remove) == 0
}

// Peers is what the leader knows of the others: who was heard lately, and whose log is so near the end that it may vote.
type Peers struct {
	Live, Near func(raft uint64) bool
}

// Next is the next step from raft's membership to what the configuration and the roster say; an empty one when they agree,
// or when whoever is to vote has not caught up.
//
// A server that is to vote listens until its log is near the leader's. Those that are near vote from then on all at once:
// 1 becomes 3 and 3 becomes 5 by one joint change. A voter goes only when those that stay and live are a majority, of
// themselves and of what the configuration asks for: a change never costs the quorum.
func Next(c Config, r Roster, now Membership, peers Peers) Step {
	var s Step
	want := r.Voters(c)
	for _, m := range r.Members {
		if !slices.Contains(now.Voters, m.Raft) && !slices.Contains(now.Learners, m.Raft) {
			s.Learners = append(s.Learners, m.Raft)
		}
	}
	for _, id := range want {
		if slices.Contains(now.Learners, id) && peers.Live(id) && peers.Near(id) {
			s.Promote = append(s.Promote, id)
		}
	}
	for _, id := range now.Learners {
		if !r.Has(id) {
			s.Remove = append(s.Remove, id)
		}
	}
	s.leave(now, want, r, peers)
	return s
}

// Grown is the configuration in which more servers vote: 3 or 5, as soon as so many live and have caught up, observers with low
// numbers first. ok is false while there is none.
func Grown(c Config, r Roster, now Membership, peers Peers) (next Config, ok bool) {
	voters := c.Participants()
	if voters != len(now.Voters) {
		return c, false // an earlier change is not in force yet
	}
	var can []int64
	for _, s := range c.Servers {
		m, member := r.Member(uint64(s.ID))
		if s.Observer && member && m.LeftMs == 0 && slices.Contains(now.Learners, m.Raft) && peers.Live(m.Raft) && peers.Near(m.Raft) {
			can = append(can, s.ID)
		}
	}
	for _, more := range []int{5 - voters, 3 - voters} {
		if more <= 0 || more > len(can) {
			continue
		}
		next = Config{Servers: slices.Clone(c.Servers), Version: c.Version}
		for i := range next.Servers {
			if s := &next.Servers[i]; slices.Contains(can[:more], s.ID) {
				s.Observer = false
			}
		}
		return next, true
	}
	return c, false
}

// leave adds the voters that are to go, if the others can do without them.
func (s *Step) leave(now Membership, want []uint64, r Roster, peers Peers) {
	var demote, remove []uint64
	stay := slices.Clone(s.Promote)
	for _, id := range now.Voters {
		switch {
		case slices.Contains(want, id):
			stay = append(stay, id)
		case r.Has(id):
			demote = append(demote, id)
		default:
			remove = append(remove, id)
		}
	}
	live := 0
	for _, id := range stay {
		if peers.Live(id) {
			live++
		}
	}
	if live < Majority(len(stay)) || live < Majority(len(want)) {
		return
	}
	s.Demote = demote
	s.Remove = append(s.Remove, remove...)
}

// Majority is how many of n voters decide.
func Majority(n int) int { return n/2 + 1 }

// Voters are the raft ids of the servers that are to vote.
func (r Roster) Voters(c Config) (ids []uint64) {
	for _, s := range c.Servers {
		if m, ok := r.Member(uint64(s.ID)); ok && !s.Observer {
			ids = append(ids, m.Raft)
		}
	}
	return ids
}

// Settled tells whether nobody votes who is not to vote: what a reconfig's answer waits for.
func Settled(c Config, r Roster, voters, outgoing []uint64) bool {
	want := r.Voters(c)
	for _, id := range voters {
		if !slices.Contains(want, id) {
			return false
		}
	}
	return len(outgoing) == 0
}
