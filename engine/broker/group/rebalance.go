package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// rebalanceOrComplete starts a rebalance, or goes on with the one under way.
func (s *Groups) rebalanceOrComplete(g *group, why string) {
	if g.state == PreparingRebalance {
		s.maybeCompleteJoin(g)
		return
	}
	s.prepareRebalance(g, why)
}

// prepareRebalance begins to gather members. An empty group waits a while for more of them to come
// (group.initial.rebalance.delay.ms); any other waits until all have rejoined, or the slowest one's rebalance timeout.
func (s *Groups) prepareRebalance(g *group, why string) {
	if g.state == CompletingRebalance {
		s.dropAssignment(g, kerr.RebalanceInProgress)
	}
	g.pendingSync, g.syncAt = nil, 0
	g.initial = g.state == Empty
	g.transition(s.now, PreparingRebalance)
	s.event(Rebalancing, g, len(g.members), "%s", why)
	if g.initial {
		g.joiners = false
		g.delay = s.settings.InitialDelay
		g.remaining = max(g.rebalanceTimeout()-g.delay, 0)
		s.joinBy(g, g.delay)
		return
	}
	if g.allJoined() {
		s.completeJoin(g)
		return
	}
	s.joinBy(g, g.rebalanceTimeout())
}

func (s *Groups) joinBy(g *group, in time.Duration) {
	g.joinAt = s.now.Mono + in
	s.wakeAt(g, g.joinAt)
}

// maybeCompleteJoin ends the gathering if nobody is waited for any more. The one of an empty group ends by its delay
// alone: more may come.
func (s *Groups) maybeCompleteJoin(g *group) {
	if g.state == PreparingRebalance && !g.initial && g.allJoined() {
		s.completeJoin(g)
	}
}

// extendInitialDelay waits on if members came during the last delay and the rebalance timeout allows
// (tryCompleteInitialRebalanceElseSchedule).
func (s *Groups) extendInitialDelay(g *group) {
	if !g.joiners || g.remaining == 0 {
		s.completeJoin(g)
		return
	}
	g.joiners = false
	last := g.delay
	g.delay = min(s.settings.InitialDelay, g.remaining)
	g.remaining = max(g.remaining-last, 0)
	s.joinBy(g, g.delay)
}

// completeJoin fixes the members of the next generation and answers their joins. Dynamic members that did not rejoin are
// out; static ones stay until their session ends.
func (s *Groups) completeJoin(g *group) {
	g.joinAt, g.initial = 0, false
	for i := 0; i < len(g.members); {
		if m := g.members[i]; m.join == 0 && m.instance == nil {
			s.removeMember(g, m)
			continue
		}
		i++
	}
	if len(g.members) > 0 && !g.electJoined() {
		s.joinBy(g, max(g.rebalanceTimeout(), time.Millisecond)) // static members only, all silent
		return
	}
	g.nextGeneration(s.now)
	if g.state == Empty {
		s.event(Emptied, g, 0, "")
		s.writeGroup(g)
		return
	}
	s.event(Stabilized, g, len(g.members), "")
	g.pendingSync = make(map[string]struct{}, len(g.members))
	for _, m := range g.members {
		if m.join != 0 {
			s.answerJoin(g, m, m.join, 0)
			m.join = 0
			g.awaitingJoin--
		}
		s.keepAlive(g, m, m.session)
		m.isNew = false
		g.pendingSync[m.id] = struct{}{}
	}
	g.syncAt = s.now.Mono + max(g.rebalanceTimeout(), time.Millisecond)
	s.wakeAt(g, g.syncAt)
}

// dropAssignment answers the syncs that wait with err.
func (s *Groups) dropAssignment(g *group, err *kerr.Error) {
	for _, m := range g.members {
		m.assignment = nil
		s.resize(g, m)
		if m.sync != 0 {
			s.reply(m.sync, 0, &SyncAnswer{Outcome: Outcome{err}})
			m.sync = 0
			s.keepAlive(g, m, m.session)
		}
	}
}

// keepAlive gives a member another session.
func (s *Groups) keepAlive(g *group, m *member, session time.Duration) {
	m.deadline = s.now.Mono + session
	s.wakeAt(g, m.deadline)
}

// fire does what has come due in a group.
func (s *Groups) fire(g *group) {
	for id, t := range g.pendingJoin {
		if t <= s.now.Mono {
			s.dropPending(g, id)
			s.maybeCompleteJoin(g)
		}
	}
	s.expireSessions(g)
	if g.joinAt != 0 && g.joinAt <= s.now.Mono {
		if g.initial {
			s.extendInitialDelay(g)
		} else {
			s.completeJoin(g)
		}
	}
	if g.syncAt != 0 && g.syncAt <= s.now.Mono {
		s.expireSync(g)
	}
	s.dropUnused(g)
}

// expireSessions removes members that were silent. One whose request waits is alive, except a new one.
func (s *Groups) expireSessions(g *group) {
	var expired []*member
	for _, m := range g.members {
		if m.deadline == 0 || m.deadline > s.now.Mono {
			continue
		}
		m.deadline = 0
		if m.isNew || !m.waits() {
			expired = append(expired, m)
		}
	}
	for _, m := range expired {
		if g.member[m.id] != m {
			continue // a rebalance that the last one set off has removed it
		}
		s.event(MemberExpired, g, len(g.members)-1, "member %s", m.id)
		s.expel(g, m)
		s.afterLeaving(g, "session of "+m.id+" ended")
	}
}

// expel removes a member that did not ask for it now, and answers what it has parked: a client that is still there then
// joins again.
func (s *Groups) expel(g *group, m *member) {
	if m.join != 0 {
		s.reply(m.join, 0, &JoinAnswer{Outcome: Outcome{kerr.UnknownMemberID}, Generation: -1})
	}
	if m.sync != 0 {
		s.reply(m.sync, 0, &SyncAnswer{Outcome: Outcome{kerr.UnknownMemberID}})
		m.sync = 0
	}
	s.removeMember(g, m)
	m.join = 0
}

// afterLeaving rebalances a group that lost members.
func (s *Groups) afterLeaving(g *group, why string) {
	switch g.state {
	case Stable, CompletingRebalance:
		s.prepareRebalance(g, why)
	case PreparingRebalance:
		s.maybeCompleteJoin(g)
	}
}

// expireSync removes members that joined a generation and never asked for their assignment (expirePendingSync).
func (s *Groups) expireSync(g *group) {
	g.syncAt = 0
	if len(g.pendingSync) == 0 || g.state != CompletingRebalance && g.state != Stable {
		return
	}
	var gone []*member
	for _, m := range g.members {
		if _, pending := g.pendingSync[m.id]; pending {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		s.expel(g, m)
	}
	s.prepareRebalance(g, "members did not ask for their assignment in time")
}
