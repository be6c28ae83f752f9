package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// join handles JoinGroup (GroupMetadataManager.classicGroupJoinToClassicGroup).
func (s *Groups) join(q *Join) {
	refuse := func(memberID string, err *kerr.Error) {
		s.reply(q.Ticket, 0, &JoinAnswer{Outcome: Outcome{err}, MemberID: memberID, Generation: -1})
	}
	if q.Session < s.settings.SessionMin || q.Session > s.settings.SessionMax {
		refuse(q.MemberID, kerr.InvalidSessionTimeout)
		return
	}
	if err := s.checkJoin(q); err != nil {
		refuse(q.MemberID, err)
		return
	}
	if q.Version == 0 {
		q.Rebalance = q.Session
	}
	q.Rebalance = max(q.Rebalance, 0)
	g := s.groups[q.Group]
	if g == nil {
		if q.MemberID != "" {
			refuse(q.MemberID, kerr.UnknownMemberID)
			return
		}
		var err *kerr.Error
		if g, err = s.create(q.Group); err != nil {
			refuse("", err)
			return
		}
	}
	defer s.dropUnused(g)
	switch {
	case !s.accepts(g, q.MemberID):
		s.turnAway(g, q)
	case !g.supports(q.ProtocolType, q.Protocols):
		refuse(q.MemberID, kerr.InconsistentGroupProtocol)
	case q.MemberID == "":
		s.joinNew(g, q)
	default:
		s.joinKnown(g, q)
	}
}

// checkJoin refuses what no record could hold, and members beyond what memory is laid out for.
func (s *Groups) checkJoin(q *Join) *kerr.Error {
	if len(q.ProtocolType) > nameBytesMax || len(q.MemberID) > stringBytesMax || len(q.ClientID) > nameBytesMax ||
		len(q.ClientHost) > nameBytesMax || q.InstanceID != nil && len(*q.InstanceID) > nameBytesMax ||
		len(q.Protocols) > s.limits.ProtocolsMax {
		return kerr.InvalidRequest
	}
	for _, p := range q.Protocols {
		if len(p.Name) > nameBytesMax {
			return kerr.InvalidRequest
		}
	}
	q.Protocols = withoutRepeats(q.Protocols)
	need := int64(memberBytes + protocolsSize(q.Protocols))
	g := s.groups[q.Group]
	if g == nil {
		need += groupBytes
	} else if m := g.member[q.MemberID]; m != nil {
		need -= int64(m.bytes)
	}
	if need > 0 && (need > s.spare || g != nil && g.bytes-g.offsetBytes+need > s.limits.GroupBytesMax) {
		return kerr.GroupMaxSizeReached
	}
	return nil
}

// accepts applies group.max.size. While members gather, those that have rejoined are counted, so that the last ones to
// come are turned away; afterwards all members are (acceptJoiningMember).
func (s *Groups) accepts(g *group, memberID string) bool {
	m := g.member[memberID]
	if m == nil && len(g.members)+len(g.pendingJoin) >= s.limits.MembersMax {
		if _, pending := g.pendingJoin[memberID]; !pending {
			return false
		}
	}
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.join != 0 || g.awaitingJoin < s.settings.MembersMax
	case CompletingRebalance, Stable:
		return m != nil || len(g.members) < s.settings.MembersMax
	}
	return true
}

// turnAway refuses a member for which there is no room, one that was in the group before included.
func (s *Groups) turnAway(g *group, q *Join) {
	s.dropPending(g, q.MemberID)
	if m := g.member[q.MemberID]; m != nil {
		s.removeMember(g, m)
	}
	s.reply(q.Ticket, 0, &JoinAnswer{Outcome: Outcome{kerr.GroupMaxSizeReached}, Generation: -1})
	s.maybeCompleteJoin(g)
}

// joinNew handles a member without an id.
func (s *Groups) joinNew(g *group, q *Join) {
	if q.InstanceID != nil {
		id := *q.InstanceID + "-" + q.Unique
		if old := g.static[*q.InstanceID]; old != nil {
			s.replaceStatic(g, old, id, q)
			return
		}
		s.admit(g, id, q)
		return
	}
	id := q.ClientID + "-" + q.Unique
	if q.Version < 4 {
		s.admit(g, id, q)
		return
	}
	// KIP-394: a client that never comes back, for instance because its request timed out, leaves no member behind.
	if g.pendingJoin == nil {
		g.pendingJoin = map[string]time.Duration{}
	}
	deadline := s.now.Mono + q.Session
	g.pendingJoin[id] = deadline
	s.grow(g, pendingBytes+len(id))
	s.wakeAt(g, deadline)
	s.reply(q.Ticket, 0, &JoinAnswer{Outcome: Outcome{kerr.MemberIDRequired}, MemberID: id, Generation: -1})
}

// joinKnown handles a member that brings an id.
func (s *Groups) joinKnown(g *group, q *Join) {
	if _, pending := g.pendingJoin[q.MemberID]; pending && q.InstanceID == nil {
		s.admit(g, q.MemberID, q)
		return
	}
	if err := g.validate(q.MemberID, q.InstanceID); err != nil {
		s.reply(q.Ticket, 0, &JoinAnswer{Outcome: Outcome{err}, MemberID: q.MemberID, Generation: -1})
		return
	}
	m := g.member[q.MemberID]
	switch {
	case g.state == PreparingRebalance:
		s.rejoin(g, m, q, "member joins again")
	case g.state == CompletingRebalance && m.matches(q.Protocols):
		// The answer to its first join got lost.
		s.answerJoin(g, m, q.Ticket, 0)
	case g.state == CompletingRebalance:
		s.rejoin(g, m, q, "metadata of a member changed")
	case g.state == Stable && g.leader == m.id:
		// The leader rebalances for what does not show in metadata, such as new partitions.
		s.rejoin(g, m, q, "leader joins again")
	case g.state == Stable && !m.matches(q.Protocols):
		s.rejoin(g, m, q, "metadata of a member changed")
	case g.state == Stable:
		s.answerJoin(g, m, q.Ticket, s.after(g))
	default:
		s.reply(q.Ticket, 0, &JoinAnswer{Outcome: Outcome{kerr.UnknownMemberID}, MemberID: q.MemberID, Generation: -1})
	}
}

// answerJoin tells a member about the present generation.
func (s *Groups) answerJoin(g *group, m *member, to Ticket, after uint64) {
	a := &JoinAnswer{
		Generation: g.generation, ProtocolType: g.protocolTypeOrNil(), Protocol: g.protocol, Leader: g.leader, MemberID: m.id,
	}
	if g.leader == m.id {
		a.Members = g.joinMembers()
	}
	s.reply(to, after, a)
}

// admit adds a member and rebalances (addMemberThenRebalanceOrCompleteJoin).
func (s *Groups) admit(g *group, id string, q *Join) {
	m := &member{
		id: id, instance: q.InstanceID, clientID: q.ClientID, clientHost: q.ClientHost,
		session: q.Session, rebalance: q.Rebalance, protocols: q.Protocols, isNew: true, join: q.Ticket,
	}
	g.joiners = g.joiners || g.initial
	s.addMember(g, m, q.ProtocolType)
	s.keepAlive(g, m, newMemberJoinTimeout)
	s.rebalanceOrComplete(g, "new member "+id+reason(q.Reason))
}

// rejoin parks the join of a member and rebalances (updateMemberThenRebalanceOrCompleteJoin).
func (s *Groups) rejoin(g *group, m *member, q *Join, why string) {
	s.update(g, m, q)
	s.rebalanceOrComplete(g, why+": "+m.id+reason(q.Reason))
}

// update gives a member what its join brings, and parks the join. A join that still waits is one whose client gave up
// on it: it is answered, because its connection may be waiting.
func (s *Groups) update(g *group, m *member, q *Join) {
	if m.join != 0 {
		s.reply(m.join, 0, &JoinAnswer{Outcome: Outcome{kerr.RebalanceInProgress}, MemberID: m.id, Generation: -1})
	} else if q.Ticket != 0 {
		g.awaitingJoin++
	}
	g.vote(m, -1)
	m.protocols, m.rebalance, m.session, m.join = q.Protocols, q.Rebalance, q.Session, q.Ticket
	g.vote(m, 1)
	s.resize(g, m)
}

// replaceStatic gives the place of a static member to a new incarnation of it, which has a new member id, and fences the
// old one (KIP-345; updateStaticMemberThenRebalanceOrCompleteJoin).
func (s *Groups) replaceStatic(g *group, m *member, id string, q *Join) {
	oldID, oldLeader := m.id, g.leader
	if m.join != 0 {
		s.reply(m.join, 0, &JoinAnswer{Outcome: Outcome{kerr.FencedInstanceID}, MemberID: oldID, Generation: -1})
		m.join = 0
		g.awaitingJoin--
	}
	if m.sync != 0 {
		s.reply(m.sync, 0, &SyncAnswer{Outcome: Outcome{kerr.FencedInstanceID}})
		m.sync = 0
	}
	delete(g.member, oldID)
	m.id, m.isNew = id, false
	g.member[id] = m
	if g.leader == oldID {
		g.leader = id
	}
	if _, ok := g.pendingSync[oldID]; ok {
		delete(g.pendingSync, oldID)
		g.pendingSync[id] = struct{}{}
	}
	s.update(g, m, q)
	s.keepAlive(g, m, m.session)
	switch {
	case g.state == Stable && g.protocol != nil && *g.protocol == g.selectProtocol():
		s.keepGeneration(g, m, oldLeader, q.Version)
	case g.state == Stable:
		s.rebalanceOrComplete(g, "static member "+id+" changes the protocol"+reason(q.Reason))
	case g.state == CompletingRebalance:
		// The leader may just be assigning to the old member id.
		s.prepareRebalance(g, "static member "+id+" came back"+reason(q.Reason))
	default:
		s.maybeCompleteJoin(g)
	}
}

// keepGeneration lets a static member come back without a rebalance: the group is written with its new member id, and
// the answer waits for that. A leader of an old client must not think that it leads, because it would assign anew; from
// version 9 on it is told to skip that (KIP-814).
func (s *Groups) keepGeneration(g *group, m *member, oldLeader string, version int16) {
	ticket := m.join
	m.join = 0
	g.awaitingJoin--
	s.writeGroup(g)
	a := &JoinAnswer{
		Generation: g.generation, ProtocolType: g.protocolTypeOrNil(), Protocol: g.protocol, Leader: oldLeader, MemberID: m.id,
	}
	if version >= 9 {
		a.Leader = g.leader
		if g.leader == m.id {
			a.Members, a.SkipAssignment = g.joinMembers(), true
		}
	}
	s.reply(ticket, s.after(g), a)
}

func reason(text string) string {
	const shown = 128
	if text == "" {
		return ""
	}
	return "; client reason: " + text[:min(len(text), shown)]
}
