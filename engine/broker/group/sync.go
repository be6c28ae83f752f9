package group

import "github.com/twmb/franz-go/pkg/kerr"

// sync handles SyncGroup (classicGroupSyncToClassicGroup). Followers wait for the leader. The leader's assignment is
// written with the group; the answers of all wait until that is committed.
func (s *Groups) sync(q *Sync) {
	refuse := func(err *kerr.Error) { s.reply(q.Ticket, 0, &SyncAnswer{Outcome: Outcome{err}}) }
	g := s.groups[q.Group]
	if g == nil || g.state == Empty {
		refuse(kerr.UnknownMemberID)
		return
	}
	if err := g.validate(q.MemberID, q.InstanceID); err != nil {
		refuse(err)
		return
	}
	switch {
	case q.Generation != g.generation:
		refuse(kerr.IllegalGeneration)
		return
	case differs(q.ProtocolType, &g.protocolType) || differs(q.Protocol, g.protocol):
		refuse(kerr.InconsistentGroupProtocol)
		return
	case g.state == PreparingRebalance:
		refuse(kerr.RebalanceInProgress)
		return
	}
	m := g.member[q.MemberID]
	delete(g.pendingSync, m.id)
	if g.state == Stable {
		s.answerSync(g, m, q.Ticket)
		return
	}
	if m.sync != 0 { // its client gave up on that one
		s.reply(m.sync, 0, &SyncAnswer{Outcome: Outcome{kerr.RebalanceInProgress}})
	}
	m.sync = q.Ticket
	assignments := q.Assignments
	q.Assignments = nil // the owner keeps the request while it waits
	if g.leader == m.id {
		s.assign(g, assignments)
	}
}

// assign takes the leader's assignment. Members that it leaves out get an empty one.
func (s *Groups) assign(g *group, assignments []Assignment) {
	var bytes int64
	for _, a := range assignments {
		bytes += int64(len(a.Data))
	}
	if bytes > s.spare || g.bytes-g.offsetBytes+bytes > s.limits.GroupBytesMax {
		// Kafka refuses a group record that is too large in the same way.
		s.dropAssignment(g, kerr.UnknownServerError)
		s.prepareRebalance(g, "assignment too large")
		return
	}
	byMember := make(map[string][]byte, len(assignments))
	for _, a := range assignments {
		byMember[a.MemberID] = a.Data
	}
	for _, m := range g.members {
		m.assignment = byMember[m.id]
		s.resize(g, m)
	}
	g.transition(s.now, Stable)
	s.writeGroup(g)
	s.event(Assigned, g, len(g.members), "")
	for _, m := range g.members {
		if m.sync != 0 {
			s.answerSync(g, m, m.sync)
			m.sync = 0
			s.keepAlive(g, m, m.session)
		}
	}
}

func (s *Groups) answerSync(g *group, m *member, to Ticket) {
	s.reply(to, s.after(g), &SyncAnswer{ProtocolType: g.protocolTypeOrNil(), Protocol: g.protocol, Assignment: m.assignment})
}

// differs reports whether both are given and are not the same.
func differs(a, b *string) bool { return a != nil && b != nil && *a != *b }

// heartbeat handles Heartbeat (classicGroupHeartbeatToClassicGroup). In a rebalance it tells the member to join again,
// and keeps its session nevertheless.
func (s *Groups) heartbeat(q *Heartbeat) {
	g := s.groups[q.Group]
	err := kerr.UnknownMemberID
	if g != nil {
		err = g.validate(q.MemberID, q.InstanceID)
	}
	switch {
	case err != nil:
	case q.Generation != g.generation:
		err = kerr.IllegalGeneration
	case g.state == PreparingRebalance:
		err = kerr.RebalanceInProgress
		fallthrough
	default:
		m := g.member[q.MemberID]
		s.keepAlive(g, m, m.session)
	}
	s.reply(q.Ticket, 0, &HeartbeatAnswer{Outcome{err}})
}

// leave handles LeaveGroup (classicGroupLeaveToClassicGroup): some members, or ids that were given out and not used, go
// at once.
func (s *Groups) leave(q *Leave) {
	a := &LeaveAnswer{Members: make([]LeftMember, len(q.Members))}
	g := s.groups[q.Group]
	left, why := false, ""
	for i, l := range q.Members {
		a.Members[i] = LeftMember{MemberID: l.MemberID, InstanceID: l.InstanceID, Err: s.leaveOne(g, l)}
		if a.Members[i].Err == nil {
			left, why = true, l.MemberID+" left"+reason(l.Reason)
		}
	}
	if g == nil {
		s.reply(q.Ticket, 0, a)
		return
	}
	if left {
		switch g.state {
		case Stable, CompletingRebalance:
			s.prepareRebalance(g, why)
		case PreparingRebalance:
			s.maybeCompleteJoin(g)
		}
	}
	s.reply(q.Ticket, s.after(g), a)
	s.dropUnused(g)
}

func (s *Groups) leaveOne(g *group, l Leaver) *kerr.Error {
	if g == nil {
		return kerr.UnknownMemberID
	}
	id := l.MemberID
	if id == "" { // an operator removes a static member
		if l.InstanceID == nil || g.static[*l.InstanceID] == nil {
			return kerr.UnknownMemberID
		}
		id = g.static[*l.InstanceID].id
	} else if _, pending := g.pendingJoin[id]; pending {
		s.dropPending(g, id)
		return nil
	} else if err := g.validate(id, l.InstanceID); err != nil {
		return err
	}
	s.expel(g, g.member[id])
	return nil
}
