package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"

	"pgregory.net/rapid"
)

// TestModel: brokers come and go, and lose disks, topics are made, grow, and are reassigned and cancelled at random, while leaders append,
// followers copy, and the ISR follows. What was acknowledged is in every leader's log, whatever happens; replicas are never
// fewer than somebody has asked for; states agree with each other; and once everybody is back, every reassignment ends and
// nothing more is written.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			m.step()
			if rapid.IntRange(0, 2).Draw(t, "settle") > 0 {
				m.room.settle()
			}
		}
		m.end()
	})
}

// model is the brokers and their logs, of which a record is a number.
type model struct {
	t        *rapid.T
	room     *room
	brokers  int32
	parts    map[string]*modelPart
	leaving  leaving // who was told to stop
	records  int
	asked    int
	answered int
}

type modelPart struct {
	epoch   int32 // leader epoch
	start   int   // where its log ended when it began
	logs    map[int32][]int
	vouched map[int32]int // in this epoch; absent before the first word
	acked   []int
	joining map[int32]int // how many proposals that name it are on their way
	factor  int           // replicas that somebody has asked for
	before  *catalog.Partition
	wished  bool // a wish is on its way, or came since the last look
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, brokers: int32(rapid.IntRange(2, 5).Draw(t, "brokers")), parts: map[string]*modelPart{}, leaving: leaving{}}
	m.room = newRoom(rapid.Uint64().Draw(t, "seed"), Config{})
	m.room.catalog.OnChange(m.watch)
	if rapid.Bool().Draw(t, "failures") {
		m.room.tree.fail = m.fail
	}
	m.room.tree.lead(true)
	for id := range m.brokers {
		if id == 0 || rapid.Bool().Draw(t, "there") {
			m.register(id)
		}
	}
	m.room.settle()
	return m
}

// fail lets multis fail now and then, applied or not.
func (m *model) fail([]catalog.Op) (error, bool) {
	switch rapid.IntRange(0, 19).Draw(m.t, "fate") {
	case 0:
		return catalog.ErrUncertain, true
	case 1:
		return catalog.ErrUncertain, false
	case 2:
		return catalog.ErrNoQuorum, false
	}
	return nil, true
}

// register brings a broker, or brings it anew. What it has said before says nothing about it. Every second one has two log directories.
func (m *model) register(id int32) {
	m.room.register([]string{fmt.Sprint(id), []string{"", "two"}[id%2]})
	for _, part := range m.parts {
		delete(part.vouched, id)
	}
}

// any is a partition that is there.
func (m *model) any() (t *catalog.Topic, index int32, p *catalog.Partition, part *modelPart) {
	var all []TopicPartition
	s := m.room.catalog.Current()
	for t := range s.Topics() {
		for i, p := range t.Partitions {
			if p.HasState && !t.Deleting {
				all = append(all, TopicPartition{t.Name, int32(i)})
			}
		}
	}
	if len(all) == 0 {
		return nil, 0, nil, nil
	}
	tp := rapid.SampledFrom(all).Draw(m.t, "partition")
	t = s.Topic(tp.Topic)
	return t, tp.Partition, t.Partitions[tp.Partition], m.parts[partKey(t, tp.Partition)]
}

func partKey(t *catalog.Topic, index int32) string {
	return fmt.Sprintf("%s/%s/%d", t.Name, t.ID, index)
}

func (m *model) step() {
	r, s := m.room, m.room.catalog.Current()
	switch rapid.IntRange(0, 17).Draw(m.t, "what") {
	case 0:
		m.create()
	case 1, 2:
		id := rapid.Int32Range(0, m.brokers-1).Draw(m.t, "broker")
		if s.Broker(id) != nil && id != 0 {
			r.tree.apply([]catalog.Op{remove(catalog.BrokerPath(id))})
		} else {
			m.register(id)
		}
	case 3, 4, 5:
		m.reassign()
	case 6:
		r.clock.Advance(time.Duration(rapid.IntRange(1, 900).Draw(m.t, "seconds")) * time.Second)
	case 7:
		if t, _, _, _ := m.any(); t != nil && rapid.IntRange(0, 9).Draw(m.t, "really") == 0 {
			m.asked++
			name := t.Name
			r.c.DeleteTopics(DeleteTopics{Topics: []TopicRef{{Name: &name}}}, func([]DeletedTopic) { m.answered++ })
		}
	case 8:
		id := rapid.Int32Range(1, m.brokers-1).Draw(m.t, "leaves")
		if b := s.Broker(id); b != nil {
			m.asked++
			m.leaving[id] = b.Epoch
			r.c.Leave(Leave{Broker: id, BrokerEpoch: b.Epoch}, func(int, error) { m.answered++ })
		}
	case 9:
		m.asked++
		r.c.ControlRebalance(RebalanceControl{Pause: rapid.Bool().Draw(m.t, "pause")}, func(error) { m.answered++ })
	case 10:
		id := rapid.Int32Range(0, m.brokers-1).Draw(m.t, "loses")
		if b := s.Broker(id); b != nil && len(b.LogDirs) > 1 {
			r.loseDisk(fmt.Sprint(id), rapid.SampledFrom([]string{"dd", "ee"}).Draw(m.t, "disk"))
		}
	default:
		for range rapid.IntRange(1, 4).Draw(m.t, "records") {
			if t, index, p, part := m.any(); t != nil {
				m.replicate(t, index, p, part)
			}
		}
	}
}

func (m *model) create() {
	topic := NewTopic{Name: rapid.SampledFrom([]string{"a", "a", "b"}).Draw(m.t, "name"), Partitions: int32(rapid.IntRange(1, 2).Draw(m.t, "partitions")), ReplicationFactor: -1}
	if rapid.Bool().Draw(m.t, "fixed") {
		topic.ReplicationFactor = int16(rapid.IntRange(1, 4).Draw(m.t, "factor"))
	}
	if n := rapid.IntRange(0, 3).Draw(m.t, "min.insync.replicas"); n > 0 {
		value := fmt.Sprint(n)
		topic.Configs = []ConfigValue{{Name: "min.insync.replicas", Value: &value}}
	}
	m.asked++
	m.room.c.CreateTopics(CreateTopics{Topics: []NewTopic{topic}}, func([]CreatedTopic) { m.answered++ })
}

// reassign wishes for other replicas of one or two partitions, or for those from before.
func (m *model) reassign() {
	var req AlterReassignments
	for range rapid.IntRange(1, 2).Draw(m.t, "reassignments") {
		t, index, _, part := m.any()
		if t == nil {
			return
		}
		one := Reassignment{TopicPartition: TopicPartition{t.Name, index}}
		if rapid.IntRange(0, 3).Draw(m.t, "cancel") > 0 {
			var all []int32
			for b := range m.room.catalog.Current().Brokers() {
				all = append(all, b.ID)
			}
			one.Replicas = rapid.Permutation(all).Draw(m.t, "target")[:rapid.IntRange(1, min(len(all), 4)).Draw(m.t, "factor")]
			part.factor = min(part.factor, len(one.Replicas))
		}
		part.wished = true
		req.Partitions = append(req.Partitions, one)
	}
	m.asked++
	m.room.c.AlterReassignments(req, func([]PartitionResult) { m.answered++ })
}

// replicate lets the leader append, a follower copy, something be acknowledged, and the ISR change.
func (m *model) replicate(t *catalog.Topic, index int32, p *catalog.Partition, part *modelPart) {
	s := m.room.catalog.Current()
	leader := s.LeaderOf(p)
	if leader == catalog.NoLeader {
		return
	}
	if rapid.Bool().Draw(m.t, "append") {
		m.records++
		part.logs[leader] = append(slices.Clone(part.logs[leader]), m.records)
	}
	for _, id := range p.Replicas {
		if id != leader && s.ReplicaOnline(p, id) && rapid.IntRange(0, 2).Draw(m.t, "copy") > 0 {
			part.logs[id] = slices.Clone(part.logs[leader])
			part.vouched[id] = len(part.logs[id])
		}
	}
	m.acknowledge(t, p, part, leader)
	if rapid.Bool().Draw(m.t, "insync") {
		m.changeInSync(s, t, index, p, part, leader)
	}
}

// acknowledge moves the high watermark, as partition.followers does.
func (m *model) acknowledge(t *catalog.Topic, p *catalog.Partition, part *modelPart, leader int32) {
	if len(p.ISR) < t.Settings.EffectiveMinISR(p.Factor()) {
		return
	}
	bound := len(part.logs[leader])
	for _, id := range p.Replicas {
		if id == leader || !slices.Contains(p.ISR, id) && part.joining[id] == 0 {
			continue
		}
		vouched, ok := part.vouched[id]
		if !ok {
			return
		}
		bound = min(bound, vouched)
	}
	if bound > len(part.acked) {
		part.acked = slices.Clone(part.logs[leader][:bound])
	}
}

func (m *model) changeInSync(s *catalog.Snapshot, t *catalog.Topic, index int32, p *catalog.Partition, part *modelPart, leader int32) {
	if len(part.joining) > 0 {
		return // one change at a time
	}
	change := InSyncChange{Topic: t.ID, Partition: index, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, id := range p.Replicas {
		var epoch int64
		if b := s.Broker(id); b != nil {
			epoch = b.Epoch
		}
		in := slices.Contains(p.ISR, id)
		vouched, ok := part.vouched[id]
		switch {
		case id == leader:
		case in && rapid.IntRange(0, 3).Draw(m.t, "leaves") == 0:
			continue
		case in:
		case ok && epoch != 0 && vouched >= max(len(part.acked), part.start):
			part.joining[id]++
		default:
			continue
		}
		change.InSync = append(change.InSync, InSyncReplica{id, epoch})
	}
	joining := maps.Clone(part.joining)
	m.asked++
	m.room.c.AlterInSync(AlterInSync{Broker: leader, BrokerEpoch: s.Broker(leader).Epoch, Partitions: []InSyncChange{change}}, func([]InSyncResult) {
		m.answered++
		for id := range joining {
			delete(part.joining, id)
		}
	})
}

// watch checks every snapshot, and lets the logs follow it.
func (m *model) watch(before, s *catalog.Snapshot) {
	for _, problem := range s.Problems {
		m.t.Fatalf("%s: %v", problem.Path, problem.Err)
	}
	there := map[string]bool{}
	for t := range s.Topics() {
		for i, p := range t.Partitions {
			key := partKey(t, int32(i))
			there[key] = true
			part := m.parts[key]
			if part == nil {
				part = &modelPart{epoch: -1, logs: map[int32][]int{}, vouched: map[int32]int{}, joining: map[int32]int{}, factor: len(p.Replicas), before: p}
				m.parts[key] = part
			}
			m.check(s, t, int32(i), p, part)
			part.before = p
		}
	}
	for key := range m.parts {
		if !there[key] {
			delete(m.parts, key)
		}
	}
}

func (m *model) check(s *catalog.Snapshot, t *catalog.Topic, index int32, p *catalog.Partition, part *modelPart) {
	fail := func(format string, args ...any) {
		m.t.Helper()
		m.t.Fatalf("%s-%d: %s\nwas %+v\nis  %+v", t.Name, index, fmt.Sprintf(format, args...), *part.before, *p)
	}
	switch {
	case !within(p.ISR, p.Replicas), !within(p.ELR, p.Replicas), !within(p.Adding, p.Replicas), !within(p.Removing, p.Replicas):
		fail("who is no replica is more than that")
	case len(p.Target()) == 0 || len(p.Original()) == 0:
		fail("nothing is left on one side")
	case p.HasState && p.Leader != catalog.NoLeader && !slices.Contains(p.ISR, p.Leader):
		fail("the leader is not in sync")
	case p.HasState && len(p.ISR) == 0 && len(p.ELR) == 0:
		fail("nobody is left")
	case slices.ContainsFunc(p.ISR, func(id int32) bool { return slices.Contains(p.ELR, id) }):
		fail("in sync and eligible")
	case len(p.Replicas) < part.factor && !part.wished:
		fail("%d replicas were asked for", part.factor)
	}
	if was := part.before; was.Reassigning() && !p.Reassigning() && !part.wished && p.PartitionEpoch == was.PartitionEpoch+1 {
		alive := without(was.ISR, func(id int32) bool { return !s.ReplicaOnline(was, id) || m.leaving.has(s, id) })
		if len(p.ISR) < min(len(alive), len(p.Replicas)) {
			fail("its end has left fewer in sync")
		}
	}
	if p.HasState {
		m.checkDirectories(t, index, p, fail)
	}
	part.factor = min(part.factor, len(p.Replicas))
	part.wished = part.wished && m.asked > m.answered
	for id := range part.logs {
		if !slices.Contains(p.Replicas, id) && s.Broker(id) != nil { // one that is away keeps what it has
			delete(part.logs, id)
			delete(part.vouched, id)
		}
	}
	for _, id := range p.Replicas {
		if was := part.before.Directory(id); p.HasState && part.before.HasState && id%2 == 1 && was != p.Directory(id) {
			delete(part.logs, id) // it begins anew there; what it has vouched for until now must not count
		}
	}
	if leader := s.LeaderOf(p); leader != catalog.NoLeader {
		if !slices.Equal(part.logs[leader][:min(len(part.acked), len(part.logs[leader]))], part.acked) {
			fail("broker %d leads with %v, acknowledged is %v", leader, part.logs[leader], part.acked)
		}
		if p.LeaderEpoch != part.epoch {
			part.start = len(part.logs[leader])
		}
	}
	if p.LeaderEpoch != part.epoch {
		if p.LeaderEpoch < part.epoch {
			fail("leader epoch")
		}
		part.epoch, part.vouched, part.joining = p.LeaderEpoch, map[int32]int{}, map[int32]int{}
	}
}

// checkDirectories looks into the znode itself: a projection shows directories of replicas alone.
func (m *model) checkDirectories(t *catalog.Topic, index int32, p *catalog.Partition, fail func(string, ...any)) {
	data, _, ok := m.room.tree.Read(catalog.StatePath(t.Name, index))
	if !ok {
		return
	}
	for id := range m.brokers {
		has := strings.Contains(string(data), fmt.Sprintf(`"%d":"`, id))
		if has && !slices.Contains(p.Replicas, id) {
			fail("broker %d has a directory in %s", id, data)
		}
		if !has && slices.Contains(p.ISR, id) {
			fail("broker %d is in sync and has no directory in %s", id, data)
		}
	}
}

// end brings everybody back, those too that were about to stop. Everything has to come to rest.
func (m *model) end() {
	r := m.room
	r.tree.fail = nil
	for id := range m.brokers {
		m.register(id)
	}
	r.c.ControlRebalance(RebalanceControl{}, func(error) {})
	for range 40 {
		r.clock.Advance(5 * time.Second)
		r.settle()
		s := r.catalog.Current()
		for t := range s.Topics() {
			for i, p := range t.Partitions {
				part := m.parts[partKey(t, int32(i))]
				if leader := s.LeaderOf(p); leader != catalog.NoLeader {
					for _, id := range p.Replicas {
						part.logs[id] = slices.Clone(part.logs[leader])
						part.vouched[id] = len(part.logs[id])
					}
				}
			}
		}
		r.catchUp()
		r.settle()
	}
	s := r.catalog.Current()
	if m.asked != m.answered {
		m.t.Fatalf("%d requests, %d answers", m.asked, m.answered)
	}
	for t := range s.Topics() {
		for i, p := range t.Partitions {
			switch {
			case s.LeaderOf(p) == catalog.NoLeader:
				m.t.Fatalf("%s-%d has no leader in the end: %+v", t.Name, i, p)
			case p.Reassigning():
				m.t.Fatalf("%s-%d moves in the end: %+v", t.Name, i, p)
			case len(p.ISR) != len(p.Replicas):
				m.t.Fatalf("%s-%d is not whole in the end: %+v", t.Name, i, p)
			case t.AutoReplication && len(p.Replicas) < min(3, int(m.brokers)):
				m.t.Fatalf("%s-%d has not grown: %+v", t.Name, i, p)
			}
		}
	}
	r.clock.Advance(6 * time.Minute) // leaders go back
	r.settle()
	writes := r.tree.multis
	for range 20 {
		r.clock.Advance(10 * time.Minute)
		r.settle()
	}
	if r.tree.multis != writes {
		m.t.Fatalf("%d writes though nothing happens", r.tree.multis-writes)
	}
	r.c.Close()
}
