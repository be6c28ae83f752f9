package group

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// group is one group of the classic protocol (ClassicGroup).
//
// Invariants: a leader is a member; awaitingJoin counts the members with a parked join; supported counts, for each
// protocol name, the members that know it; members and member hold the same; static holds the members that have an
// instance id; pendingSync are members; an Empty group has no members.
type group struct {
	id    string
	state State
	// since is when the state was entered, in milliseconds since 1970; -1 if that is not known.
	since int64
	// protocolType is empty for a group that never had members: its offsets come from simple consumers.
	protocolType string
	protocol     *string
	generation   int32
	leader       string // a member id; empty for none

	member       map[string]*member
	members      []*member // in the order in which they came
	static       map[string]*member
	awaitingJoin int
	supported    map[string]int
	// pendingJoin are member ids that were given out and not yet come back with (KIP-394), and when they lapse.
	pendingJoin map[string]time.Duration
	// pendingSync are the members of this generation that have not sent SyncGroup.
	pendingSync map[string]struct{}

	// topics are those that the members subscribe to; nil with topicsKnown false when their metadata says nothing.
	topics      map[string]struct{}
	topicsKnown bool

	// joinAt ends the gathering of members, syncAt the wait for SyncGroups; 0 when neither is under way.
	joinAt, syncAt time.Duration
	// joiners says that members came since the initial delay was last set; delay and remaining are that delay and what
	// may be added to it. initial is set while the delay of an empty group runs.
	joiners          bool
	initial          bool
	delay, remaining time.Duration

	offsets     map[string]map[int32]*offset
	offsetCount int
	txnOffsets  int // pending offsets of transactions

	// persisted says that the log has a record for the group, so that its removal needs a tombstone.
	persisted bool
	written   uint64 // the batch that holds the newest record of the group
	// bytes is about what the group takes in memory; offsetBytes is the part of its offsets.
	bytes, offsetBytes int64

	wake time.Duration // when the heap looks at the group
	at   int           // index in the heap, -1 when not in it
}

// consumer reports whether the members speak Kafka's consumer protocol, whose metadata names topics.
func (g *group) consumer() bool { return g.protocolType == "consumer" }

func (g *group) transition(now Time, to State) {
	g.state, g.since = to, now.Wall
}

// addMember adds a member that has passed supports; the first one brings the group's protocol type.
func (s *Groups) addMember(g *group, m *member, protocolType string) {
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	if m.instance != nil {
		g.static[*m.instance] = m
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.member[m.id] = m
	g.members = append(g.members, m)
	g.vote(m, 1)
	if m.join != 0 {
		g.awaitingJoin++
	}
	s.dropPending(g, m.id)
	m.bytes = m.size()
	s.grow(g, m.bytes)
}

// removeMember takes a member out, parked requests aside: those must have been answered.
func (s *Groups) removeMember(g *group, m *member) {
	delete(g.member, m.id)
	for i, o := range g.members {
		if o == m {
			g.members = append(g.members[:i], g.members[i+1:]...)
			break
		}
	}
	g.vote(m, -1)
	if m.join != 0 {
		g.awaitingJoin--
	}
	if m.instance != nil && g.static[*m.instance] == m {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
	delete(g.pendingSync, m.id)
	s.grow(g, -m.bytes)
}

// resize accounts for what has changed in a member.
func (s *Groups) resize(g *group, m *member) {
	n := m.size()
	s.grow(g, n-m.bytes)
	m.bytes = n
}

func (s *Groups) dropPending(g *group, memberID string) {
	if _, ok := g.pendingJoin[memberID]; ok {
		delete(g.pendingJoin, memberID)
		s.grow(g, -pendingBytes-len(memberID))
	}
}

func (g *group) vote(m *member, n int) {
	for _, p := range m.protocols {
		if g.supported[p.Name] += n; g.supported[p.Name] == 0 {
			delete(g.supported, p.Name)
		}
	}
}

// supports reports whether a member with these protocols may be in the group: it has the group's protocol type and
// knows one protocol that all members know.
func (g *group) supports(protocolType string, protocols []Protocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(protocols) > 0
	}
	if protocolType != g.protocolType {
		return false
	}
	for _, p := range protocols {
		if g.supported[p.Name] == len(g.members) {
			return true
		}
	}
	return false
}

// selectProtocol is the protocol that most members like best of those that all know. Among equals the first voted for
// wins; in Kafka the order of a hash map decides. There is always one: supports has seen to it.
func (g *group) selectProtocol() string {
	votes := map[string]int{}
	best, most := "", 0
	for _, m := range g.members {
		for _, p := range m.protocols {
			if g.supported[p.Name] == len(g.members) {
				if votes[p.Name]++; votes[p.Name] > most {
					best, most = p.Name, votes[p.Name]
				}
				break
			}
		}
	}
	return best
}

// validate checks who asks (ClassicGroup.validateMember).
func (g *group) validate(memberID string, instance *string) *kerr.Error {
	if instance != nil {
		m := g.static[*instance]
		if m == nil {
			return kerr.UnknownMemberID
		}
		if m.id != memberID {
			return kerr.FencedInstanceID
		}
	}
	if g.member[memberID] == nil {
		return kerr.UnknownMemberID
	}
	return nil
}

func (g *group) allJoined() bool { return len(g.members) == g.awaitingJoin && len(g.pendingJoin) == 0 }

// rebalanceTimeout is that of the slowest member.
func (g *group) rebalanceTimeout() time.Duration {
	var t time.Duration
	for _, m := range g.members {
		t = max(t, m.rebalance)
	}
	return t
}

// electJoined makes sure that the leader is a member whose join waits. It reports false if there is none.
func (g *group) electJoined() bool {
	if m := g.member[g.leader]; m != nil && m.join != 0 {
		return true
	}
	for _, m := range g.members {
		if m.join != 0 {
			g.leader = m.id
			return true
		}
	}
	return false
}

// nextGeneration fixes the members and their protocol, or makes a group without members Empty.
func (g *group) nextGeneration(now Time) {
	if g.generation++; g.generation < 0 || g.generation == math.MaxInt32 {
		g.generation = 1 // after two thousand million rebalances; a negative one means "from outside"
	}
	g.pendingSync = nil
	if len(g.members) == 0 {
		g.protocol, g.leader = nil, ""
		g.subscribe()
		g.transition(now, Empty)
		return
	}
	p := g.selectProtocol()
	g.protocol = &p
	g.subscribe()
	g.transition(now, CompletingRebalance)
}

// subscribe reads the topics out of the members' metadata (ClassicGroup.computeSubscribedTopics).
func (g *group) subscribe() {
	g.topics, g.topicsKnown = nil, false
	if !g.consumer() {
		return
	}
	if len(g.members) == 0 {
		g.topicsKnown = true
		return
	}
	if g.protocol == nil {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range g.members {
		if !subscription(m.metadata(*g.protocol), topics) {
			return
		}
	}
	g.topics, g.topicsKnown = topics, true
}

// subscribed reports whether members read a topic, as far as is known: of a consumer group whose metadata could not be
// read every topic might be one.
func (g *group) subscribed(topic string) bool {
	if !g.topicsKnown {
		return g.consumer()
	}
	_, ok := g.topics[topic]
	return ok
}

// joinMembers is what the leader sees.
func (g *group) joinMembers() []JoinMember {
	list := make([]JoinMember, len(g.members))
	for i, m := range g.members {
		list[i] = JoinMember{ID: m.id, InstanceID: m.instance, Metadata: m.metadata(*g.protocol)}
	}
	return list
}

// protocolTypeOrNil is the protocol type as answers have it.
func (g *group) protocolTypeOrNil() *string {
	if g.protocolType == "" {
		return nil
	}
	t := g.protocolType
	return &t
}

// nextDeadline is the earliest time at which something is due, 0 for none.
func (g *group) nextDeadline() time.Duration {
	var next time.Duration
	earlier := func(t time.Duration) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	earlier(g.joinAt)
	earlier(g.syncAt)
	for _, t := range g.pendingJoin {
		earlier(t)
	}
	for _, m := range g.members {
		earlier(m.deadline)
	}
	return next
}
