package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Replay applies one record of the log, in the order of the log; the later record of a key wins, and a nil value
// removes. producer is the producer id of a record in a transaction, -1 otherwise. offset is the record's. key and value
// are borrowed. ErrRecord means that the record is skipped; kinds of records that this version does not know are
// skipped silently. Nothing is refused for want of room: the log wins.
func (s *Groups) Replay(now Time, offset, producer int64, key, value []byte) error {
	s.now = now
	s.position = max(s.position, offset)
	k, err := parseKey(key)
	if err != nil {
		return err
	}
	switch {
	case k.kind < 0:
		return nil
	case k.kind == 1:
		return s.replayGroup(k.group, value)
	}
	return s.replayOffset(k, producer, value)
}

// EndTransaction applies the end of a transaction.
func (s *Groups) EndTransaction(producer int64, commit bool) { s.endTxn(producer, commit) }

func (s *Groups) replayOffset(k key, producer int64, value []byte) error {
	g := s.groups[k.group]
	if value == nil {
		if g != nil {
			s.drop(g, k.topic, k.partition)
			s.dropPendingTxn(g, k.topic, k.partition)
			s.dropUnused(g)
		}
		return nil
	}
	o, err := parseOffset(value)
	if err != nil {
		return err
	}
	o.position = s.position
	if g == nil {
		g = s.add(k.group) // a simple consumer's
		g.since = -1
	}
	if producer >= 0 {
		s.pendTxn(g, producer, k.topic, k.partition, o)
	} else {
		s.put(g, k.topic, k.partition, o)
	}
	return nil
}

// replayGroup puts a group in the state of its record; its offsets stay.
func (s *Groups) replayGroup(id string, value []byte) error {
	g := s.groups[id]
	if value == nil {
		if g != nil {
			s.clearMembers(g)
			g.persisted, g.protocolType, g.protocol, g.generation, g.since = false, "", nil, 0, -1
			g.subscribe()
			s.dropUnused(g)
		}
		return nil
	}
	v, err := parseGroup(value)
	if err != nil {
		return err
	}
	if len(v.members) > 0 && (v.protocol == nil || v.protocolType == "") {
		return fmt.Errorf("%w: group with %d members and no protocol", ErrRecord, len(v.members))
	}
	if g == nil {
		g = s.add(id)
	}
	s.clearMembers(g)
	g.persisted, g.state, g.since = true, Empty, v.since
	g.protocolType, g.protocol, g.generation = v.protocolType, v.protocol, max(v.generation, 0)
	for _, m := range v.members {
		if g.member[m.id] != nil || m.instance != nil && g.static[*m.instance] != nil {
			continue // only a damaged record names a member twice
		}
		m.protocols[0].Name = *v.protocol
		s.addMember(g, m, v.protocolType)
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
	if v.leader != nil && g.member[*v.leader] != nil {
		g.leader = *v.leader
	}
	g.subscribe()
	return nil
}

func (s *Groups) clearMembers(g *group) {
	for len(g.members) > 0 {
		s.removeMember(g, g.members[len(g.members)-1])
	}
	g.state, g.leader, g.pendingSync = Empty, "", nil
}

// Loaded ends the replay: members that the log knows get a session each, in which they can show that they are alive
// (GroupMetadataManager.onLoaded).
func (s *Groups) Loaded(now Time) {
	s.now = now
	for _, id := range inOrder(s.groups) {
		g := s.groups[id]
		for _, m := range g.members {
			m.session = min(max(m.session, s.settings.SessionMin), s.settings.SessionMax)
			s.keepAlive(g, m, m.session)
		}
		if len(g.members) > s.settings.MembersMax {
			s.prepareRebalance(g, "more members than group.max.size")
		}
	}
}

// Expire removes what has outlived its retention: offsets of groups that have been Empty for that long, of simple
// consumers that have not committed for that long, and, in Stable groups, of topics that nobody subscribes to; then
// groups that have nothing left (KIP-211; OffsetMetadataManager.cleanupExpiredOffsets). It must be called only while the
// wall clock is known to be good.
func (s *Groups) Expire(now Time) {
	s.now = now
	if s.unknownSince == 0 {
		s.unknownSince = now.Wall
	}
	for _, id := range inOrder(s.groups) {
		g := s.groups[id]
		n := s.expireOffsets(g)
		if n > 0 {
			s.event(OffsetsGone, g, n, "expired")
		}
		if g.state == Empty && g.offsetCount == 0 && g.txnOffsets == 0 && len(g.pendingJoin) == 0 {
			s.remove(g, "nothing left to keep")
		}
	}
}

// wallMin is 2020 in milliseconds: a stamp from before that was made by a box whose clock was not set. What it stands
// for is taken to have happened when a good clock first looked.
const wallMin = 1_577_836_800_000

func (s *Groups) expireOffsets(g *group) (expired int) {
	simple := g.protocolType == ""
	var since func(o *offset) int64
	switch {
	case simple, g.state == Stable && g.consumer() && g.topicsKnown:
		since = func(o *offset) int64 { return o.committed }
	case g.state == Empty && g.since >= 0:
		since = func(*offset) int64 { return g.since }
	case g.state == Empty:
		since = func(o *offset) int64 { return o.committed }
	default:
		return 0
	}
	for _, topic := range inOrder(g.offsets) {
		if g.subscribed(topic) {
			continue
		}
		for _, p := range inOrder(g.offsets[topic]) {
			o := g.offsets[topic][p]
			base := since(o)
			if base < wallMin {
				base = s.unknownSince
			}
			old := s.now.Wall-base >= s.settings.Retention.Milliseconds()
			if o.expire >= 0 {
				old = s.now.Wall >= o.expire
			}
			if old && !s.hasPendingTxn(g, topic, p) {
				s.tombstone(g, topic, p)
				expired++
			}
		}
	}
	return expired
}

// TopicsDeleted removes the offsets of topics that are no more (OffsetMetadataManager.onPartitionsDeleted), and reports
// whether there were any.
func (s *Groups) TopicsDeleted(now Time, topics []string) (removed bool) {
	s.now = now
	for _, id := range inOrder(s.groups) {
		g, n := s.groups[id], 0
		for _, topic := range topics {
			for _, p := range inOrder(g.offsets[topic]) {
				s.tombstone(g, topic, p)
				n++
			}
		}
		if n > 0 {
			removed = true
			s.event(OffsetsGone, g, n, "topic deleted")
		}
	}
	return removed
}

// delete handles DeleteGroups for one group (GroupCoordinatorShard.deleteGroups).
func (s *Groups) delete(q *Delete) {
	g := s.groups[q.Group]
	var err *kerr.Error
	switch {
	case g == nil:
		err = kerr.GroupIDNotFound
	case g.state != Empty:
		err = kerr.NonEmptyGroup
	}
	if err != nil {
		s.reply(q.Ticket, s.after(g), Refuse(q, err))
		return
	}
	s.tombstones(g, g.offsets)
	for _, producer := range inOrder(s.txns) {
		t := s.txns[producer]
		s.tombstones(g, t.groups[g.id])
		delete(t.groups, g.id)
	}
	s.remove(g, "deleted")
	s.reply(q.Ticket, s.after(nil), &DeleteAnswer{})
}

func (s *Groups) tombstones(g *group, offsets map[string]map[int32]*offset) {
	for _, topic := range inOrder(offsets) {
		for _, p := range inOrder(offsets[topic]) {
			s.tombstone(g, topic, p)
		}
	}
}

// inOrder are the keys of a map in order: what goes out must not depend on chance.
func inOrder[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// remove writes the tombstone of a group without offsets and forgets it.
func (s *Groups) remove(g *group, why string) {
	s.event(Removed, g, 0, "%s", why)
	if g.persisted {
		s.write(g, Record{Key: groupKey(g.id)})
	}
	if g.written > s.committed {
		s.removed = g.written
	}
	s.forget(g)
}
