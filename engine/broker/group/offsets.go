package group

import (
	"slices"
	"sort"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
)

// offset is one committed offset (OffsetAndMetadata).
type offset struct {
	offset      int64
	leaderEpoch int32 // -1 if the client did not say
	metadata    string
	committed   int64 // milliseconds since 1970
	expire      int64 // milliseconds since 1970; negative: by the broker's retention
	position    int64 // see Groups.position
}

func (o *offset) size() int { return offsetBytes + len(o.metadata) }

// commit handles OffsetCommit (OffsetMetadataManager.commitOffset).
func (s *Groups) commit(q *Commit) {
	g, err := s.committer(q)
	if err != nil {
		s.reply(q.Ticket, 0, Refuse(q, err))
		return
	}
	if m := g.member[q.MemberID]; m != nil && (g.state == Stable || g.state == PreparingRebalance) {
		s.keepAlive(g, m, m.session)
	}
	expire := int64(-1)
	if q.Retention >= 0 {
		expire = s.now.Wall + q.Retention.Milliseconds()
	}
	a := &CommitAnswer{}
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			if len(a.Partitions) >= s.limits.OffsetsMax {
				a.Partitions = append(a.Partitions, kerr.PolicyViolation) // or one offset named again and again
				continue
			}
			o := &offset{
				offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: p.Metadata, committed: s.now.Wall, expire: expire,
			}
			a.Partitions = append(a.Partitions, s.commitOne(g, t.Topic, p.Partition, o))
		}
	}
	s.reply(q.Ticket, s.after(g), a)
	s.dropUnused(g)
}

// committer checks who commits (OffsetMetadataManager.validateOffsetCommit, ClassicGroup.validateOffsetCommit). A commit
// from outside makes the group if need be: such a group belongs to a simple consumer.
func (s *Groups) committer(q *Commit) (*group, *kerr.Error) {
	g := s.groups[q.Group]
	if g == nil {
		switch {
		case q.Generation < 0:
			g, err := s.create(q.Group)
			if err != nil {
				return nil, kerr.PolicyViolation
			}
			return g, nil
		case q.Version >= 9:
			return nil, kerr.GroupIDNotFound
		}
		return nil, kerr.IllegalGeneration
	}
	switch {
	case q.Generation < 0 && g.state == Empty:
		return g, nil
	case q.Generation >= 0 || q.MemberID != "" || q.InstanceID != nil:
		if err := g.validate(q.MemberID, q.InstanceID); err != nil {
			return nil, err
		}
		if q.Generation != g.generation {
			return nil, kerr.IllegalGeneration
		}
	case g.state != Empty:
		return nil, kerr.UnknownMemberID
	}
	if g.state == CompletingRebalance {
		return nil, kerr.RebalanceInProgress
	}
	return g, nil
}

func (s *Groups) commitOne(g *group, topic string, partition int32, o *offset) *kerr.Error {
	if len(topic) > nameBytesMax || partition < 0 {
		return kerr.UnknownTopicOrPartition
	}
	if utf16Len(o.metadata, s.settings.MetadataMax) > s.settings.MetadataMax || len(o.metadata) > stringBytesMax {
		return kerr.OffsetMetadataTooLarge
	}
	old := g.offsets[topic][partition]
	if old == nil && g.offsetCount >= s.limits.OffsetsMax || int64(o.size()+topicBytes) > s.spare {
		return kerr.PolicyViolation
	}
	if s.unchanged(g, topic, partition, old, o) {
		return nil
	}
	s.put(g, topic, partition, o)
	s.write(g, Record{Key: offsetKey(g.id, topic, partition), Value: offsetValue(o)})
	o.position = s.position
	return nil
}

// unchangedShare is the part of the retention after which an offset that is committed again and again without change
// is written again. A consumer that commits every five seconds would otherwise write to flash for ever while nothing
// happens; Kafka does. The only thing lost is that much of the offset's age: an hour in seven days.
const unchangedShare = 7 * 24

// unchanged reports whether a commit says what the log says already.
func (s *Groups) unchanged(g *group, topic string, partition int32, old, o *offset) bool {
	if old == nil || old.offset != o.offset || old.leaderEpoch != o.leaderEpoch || old.metadata != o.metadata ||
		old.expire >= 0 || o.expire >= 0 || g.txnOffsets > 0 {
		return false
	}
	age := time.Duration(o.committed-old.committed) * time.Millisecond
	return age >= 0 && age < s.settings.Retention/unchangedShare
}

// put stores an offset.
func (s *Groups) put(g *group, topic string, partition int32, o *offset) {
	partitions := g.offsets[topic]
	if partitions == nil {
		if g.offsets == nil {
			g.offsets = map[string]map[int32]*offset{}
		}
		partitions = map[int32]*offset{}
		g.offsets[topic] = partitions
		s.growOffsets(g, topicBytes+len(topic))
	}
	if old := partitions[partition]; old != nil {
		s.growOffsets(g, -old.size())
	} else {
		g.offsetCount++
		s.offsets++
	}
	partitions[partition] = o
	s.growOffsets(g, o.size())
}

// drop forgets an offset and reports whether there was one.
func (s *Groups) drop(g *group, topic string, partition int32) bool {
	partitions := g.offsets[topic]
	old := partitions[partition]
	if old == nil {
		return false
	}
	delete(partitions, partition)
	g.offsetCount--
	s.offsets--
	s.growOffsets(g, -old.size())
	if len(partitions) == 0 {
		delete(g.offsets, topic)
		s.growOffsets(g, -topicBytes-len(topic))
	}
	return true
}

func (s *Groups) growOffsets(g *group, n int) {
	g.offsetBytes += int64(n)
	s.grow(g, n)
}

// tombstone removes an offset from state and log.
func (s *Groups) tombstone(g *group, topic string, partition int32) {
	s.drop(g, topic, partition)
	s.dropPendingTxn(g, topic, partition)
	s.write(g, Record{Key: offsetKey(g.id, topic, partition)})
}

// fetchOffsets handles OffsetFetch. A group or offset that is not there is no error: its offset is -1.
func (s *Groups) fetchOffsets(q *FetchOffsets) {
	g := s.groups[q.Group]
	a := &FetchAnswer{}
	if q.All {
		if g != nil {
			a.Topics = s.allOffsets(g, q.RequireStable)
		}
	} else {
		a.Topics = make([]FetchedTopic, len(q.Topics))
		for i, t := range q.Topics {
			a.Topics[i] = FetchedTopic{Topic: t.Topic, Partitions: make([]FetchedOffset, len(t.Partitions))}
			for j, p := range t.Partitions {
				a.Topics[i].Partitions[j] = s.fetchOne(g, t.Topic, p, q.RequireStable)
			}
		}
	}
	s.reply(q.Ticket, s.after(g), a)
}

func (s *Groups) allOffsets(g *group, stable bool) []FetchedTopic {
	topics := make([]FetchedTopic, 0, len(g.offsets))
	for topic, partitions := range g.offsets {
		t := FetchedTopic{Topic: topic, Partitions: make([]FetchedOffset, 0, len(partitions))}
		for p := range partitions {
			t.Partitions = append(t.Partitions, s.fetchOne(g, topic, p, stable))
		}
		slices.SortFunc(t.Partitions, func(a, b FetchedOffset) int { return int(a.Partition) - int(b.Partition) })
		topics = append(topics, t)
	}
	sort.Slice(topics, func(i, j int) bool { return topics[i].Topic < topics[j].Topic })
	return topics
}

func (s *Groups) fetchOne(g *group, topic string, partition int32, stable bool) FetchedOffset {
	f := FetchedOffset{Partition: partition, Offset: -1, LeaderEpoch: -1}
	if g == nil {
		return f
	}
	if stable && s.hasPendingTxn(g, topic, partition) {
		f.Err = kerr.UnstableOffsetCommit
		return f
	}
	if o := g.offsets[topic][partition]; o != nil {
		f.Offset, f.LeaderEpoch, f.Metadata = o.offset, o.leaderEpoch, o.metadata
	}
	return f
}

// deleteOffsets handles OffsetDelete (OffsetMetadataManager.deleteOffsets, KIP-496).
func (s *Groups) deleteOffsets(q *DeleteOffsets) {
	g := s.groups[q.Group]
	switch {
	case g == nil:
		s.reply(q.Ticket, s.after(nil), Refuse(q, kerr.GroupIDNotFound))
		return
	case g.state != Empty && !g.consumer():
		s.reply(q.Ticket, 0, Refuse(q, kerr.NonEmptyGroup))
		return
	}
	a := &DeleteOffsetsAnswer{}
	for _, t := range q.Topics {
		subscribed := g.subscribed(t.Topic)
		for _, p := range t.Partitions {
			switch {
			case subscribed:
				a.Partitions = append(a.Partitions, kerr.GroupSubscribedToTopic)
				continue
			case g.offsets[t.Topic][p] != nil || s.hasPendingTxn(g, t.Topic, p):
				s.tombstone(g, t.Topic, p)
			}
			a.Partitions = append(a.Partitions, nil)
		}
	}
	s.reply(q.Ticket, s.after(g), a)
}

// utf16Len is the length as Java counts it, exact above most.
func utf16Len(v string, most int) int {
	if len(v) <= most {
		return len(v) // never less than the UTF-16 units
	}
	n := 0
	for _, r := range v {
		if r == utf8.RuneError {
			n++
			continue
		}
		n += utf16.RuneLen(r)
	}
	return n
}
