package partition

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	replicationSeeds = flag.Int("partition.seeds", 1500, "runs of the replication model")
	replicationFrom  = flag.Uint64("partition.from", 1, "the first seed")
)

// The model: three replicas with States as they are, logs as slices, a controller with the rules of ISR and ELR, a network
// that delays, reorders across kinds and loses, power cuts that take what was not flushed, and leases that end while a
// box lives. Whatever a leader has acknowledged must be in the log of every later one.

type record struct {
	epoch int32
	value int
}

type modelBox struct {
	id          int32
	up          bool
	brokerEpoch int64
	state       State
	log         []record
	durable     int
	checkpoint  int64 // high watermark
	seen        modelCatalog
}

func (b *modelBox) logEpoch() int32 {
	if len(b.log) == 0 {
		return -1
	}
	return b.log[len(b.log)-1].epoch
}

// leaderEndOf is the answer of a leader's epoch cache, which has its own epoch from the moment at which it leads.
func (b *modelBox) leaderEndOf(epoch int32) EpochEnd {
	_, own := b.state.Leader()
	if last := b.logEpoch(); last < epoch && last >= 0 && epoch < own {
		return EpochEnd{last, int64(len(b.log))}
	}
	if epoch == own {
		return EpochEnd{own, int64(len(b.log))}
	}
	if len(b.log) == 0 {
		return EpochEnd{epoch, 0}
	}
	return endOf(b.log, epoch)
}

// endOf is the leader epoch cache's answer.
func endOf(log []record, epoch int32) EpochEnd {
	if len(log) == 0 || epoch < 0 || log[len(log)-1].epoch < epoch {
		return EpochEnd{-1, -1}
	}
	if log[0].epoch > epoch {
		return EpochEnd{epoch, 0}
	}
	i := slices.IndexFunc(log, func(r record) bool { return r.epoch > epoch })
	if i < 0 {
		i = len(log)
	}
	return EpochEnd{log[i-1].epoch, int64(i)}
}

type modelCatalog struct {
	leader            int32
	leaderEpoch       int32
	leaderBrokerEpoch int64
	isr, elr          []int32
	partitionEpoch    int32
	registered        map[int32]int64
}

func (c modelCatalog) clone() modelCatalog {
	c.isr, c.elr = slices.Clone(c.isr), slices.Clone(c.elr)
	registered := map[int32]int64{}
	for k, v := range c.registered {
		registered[k] = v
	}
	c.registered = registered
	return c
}

type modelMessage struct {
	kind      string
	from, to  int32
	epoch     int32
	offset    int64
	lastEpoch int32
	records   []record
	hw        int64
	diverging *EpochEnd
	member    Member
	members   []Member
	partition int32
}

type model struct {
	t       *testing.T
	r       *rand.Rand
	boxes   []*modelBox
	catalog modelCatalog
	net     []modelMessage
	acked   []int // value by offset
	value   int
	now     time.Duration
	epochs  int64
	min     int
	story   []string
	reached int // elections after something was acknowledged
}

func (m *model) say(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	tail := m.story[max(len(m.story)-60, 0):]
	for _, line := range tail {
		m.t.Log(line)
	}
	m.t.Fatalf(format, args...)
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), min: 1 + int(seed%2)}
	m.catalog = modelCatalog{leader: 1, leaderEpoch: 0, isr: []int32{1, 2, 3}, registered: map[int32]int64{}}
	for id := int32(1); id <= 3; id++ {
		b := &modelBox{id: id}
		m.boxes = append(m.boxes, b)
		m.start(b)
	}
	m.catalog.leaderBrokerEpoch = m.boxes[0].brokerEpoch
	return m
}

func (m *model) box(id int32) *modelBox { return m.boxes[id-1] }

// start opens the log and registers.
func (m *model) start(b *modelBox) {
	b.up = true
	b.state = State{}
	b.state.Open(0, int64(len(b.log)), b.logEpoch(), b.checkpoint)
	m.register(b)
}

func (m *model) register(b *modelBox) {
	m.epochs++
	b.brokerEpoch = m.epochs
	b.seen = modelCatalog{registered: map[int32]int64{}}
	m.catalog.registered[b.id] = m.epochs
}

func (m *model) crash(b *modelBox) {
	kept := b.durable + m.r.IntN(len(b.log)-b.durable+1)
	m.say("box %d crashes: %d of %d records kept, %d were flushed", b.id, kept, len(b.log), b.durable)
	b.log, b.up = slices.Clone(b.log[:kept]), false
	b.checkpoint = min(b.state.HighWatermark(), int64(b.durable)) - int64(m.r.IntN(3))
	b.checkpoint = max(b.checkpoint, 0)
}

// fence ends a registration, and does what the controller does then.
func (m *model) fence(id int32) {
	c := &m.catalog
	delete(c.registered, id)
	m.say("broker %d is fenced", id)
	if slices.Contains(c.isr, id) && len(c.isr) > 1 {
		c.isr = slices.DeleteFunc(slices.Clone(c.isr), func(x int32) bool { return x == id })
		if len(c.isr) < m.min && !slices.Contains(c.elr, id) {
			c.elr = append(c.elr, id)
		}
		c.partitionEpoch++
	}
}

// elect gives the partition a leader where its own cannot act any more.
func (m *model) elect() {
	c := &m.catalog
	if c.leader > 0 && c.registered[c.leader] == c.leaderBrokerEpoch && c.leaderBrokerEpoch != 0 {
		return
	}
	var candidates []int32
	for _, list := range [][]int32{c.isr, c.elr} {
		for _, id := range list {
			if c.registered[id] != 0 && m.box(id).up {
				candidates = append(candidates, id)
			}
		}
		if len(candidates) > 0 {
			break
		}
	}
	if len(candidates) == 0 {
		return
	}
	id := candidates[m.r.IntN(len(candidates))]
	if !slices.Contains(c.isr, id) {
		c.isr = []int32{id}
		c.elr = slices.DeleteFunc(c.elr, func(x int32) bool { return x == id })
	}
	c.leader, c.leaderBrokerEpoch = id, c.registered[id]
	c.leaderEpoch = max(c.leaderEpoch, m.box(id).logEpoch()) + 1
	c.partitionEpoch++
	m.say("broker %d is elected in epoch %d, isr %v, elr %v", id, c.leaderEpoch, c.isr, c.elr)
	m.check(m.box(id), "is elected")
	if len(m.acked) > 0 {
		m.reached++
	}
}

// check finds everything that was acknowledged in a log.
func (m *model) check(b *modelBox, what string) {
	if len(b.log) < len(m.acked) {
		m.fail("box %d %s with %d records, %d were acknowledged", b.id, what, len(b.log), len(m.acked))
	}
	for i, v := range m.acked {
		if b.log[i].value != v {
			m.fail("box %d %s with record %d at offset %d, %d was acknowledged", b.id, what, b.log[i].value, i, v)
		}
	}
}

// apply lets a box see the present catalog.
func (m *model) apply(b *modelBox) {
	c := m.catalog.clone()
	b.seen = c
	if c.registered[b.id] != b.brokerEpoch {
		return // of an earlier registration: it leads nothing, and follows nobody yet
	}
	if c.leader != b.id || c.leaderBrokerEpoch != b.brokerEpoch {
		b.state.Resign(c.leaderEpoch)
		return
	}
	ms := Membership{Epoch: c.partitionEpoch, InSync: c.isr, InSyncMin: m.min}
	for id := int32(1); id <= 3; id++ {
		if id != b.id {
			ms.Replicas = append(ms.Replicas, Member{id, c.registered[id]})
		}
	}
	if err := b.state.Lead(c.leaderEpoch, ms, m.now); err != nil {
		m.fail("box %d cannot lead: %v", b.id, err)
	}
	m.moved(b)
}

// moved looks at what a box has acknowledged.
func (m *model) moved(b *modelBox) {
	if err := b.state.CheckInvariants(); err != nil {
		m.fail("box %d: %v", b.id, err)
	}
	hw := b.state.HighWatermark()
	if int(hw) > len(b.log) || int64(len(b.log)) != b.state.End() {
		m.fail("box %d: high watermark %d, end %d of %d records", b.id, hw, b.state.End(), len(b.log))
	}
	for i := range hw {
		v := b.log[i].value
		switch leader, _ := b.state.Leader(); {
		case int(i) < len(m.acked):
			if m.acked[i] != v {
				m.fail("box %d shows record %d at offset %d, %d was acknowledged", b.id, v, i, m.acked[i])
			}
		case leader:
			m.acked = append(m.acked, v)
		default:
			m.fail("follower %d shows offset %d that no leader has acknowledged", b.id, i)
		}
	}
}

func (m *model) send(msg modelMessage) {
	if m.r.IntN(10) > 0 {
		m.net = append(m.net, msg)
	}
}

// step does one thing at random.
func (m *model) step() {
	m.now += 10 * time.Millisecond
	b := m.boxes[m.r.IntN(3)]
	leader, epoch := b.state.Leader()
	switch n := m.r.IntN(100); {
	case n < 30:
		m.deliver()
	case n < 38:
		if b.up {
			m.apply(b)
		}
	case n < 52:
		if b.up && leader {
			m.value++
			b.log = append(b.log, record{epoch, m.value})
			b.state.Appended(int64(len(b.log)), m.now)
			m.moved(b)
		}
	case n < 64:
		if b.up {
			b.durable = len(b.log)
			b.state.FlushedTo(int64(b.durable))
			m.moved(b)
		}
	case n < 82:
		m.fetch(b)
	case n < 90:
		if offset, ok := b.state.Vouches(); b.up && ok && b.seen.leader != 0 {
			m.send(modelMessage{kind: "vouch", from: b.id, to: b.seen.leader, epoch: epoch, offset: offset, member: Member{b.id, b.brokerEpoch}})
		}
	case n < 93:
		if isr, ok := b.state.ProposeInSync(m.now, 300*time.Millisecond); ok && b.up {
			m.say("leader %d proposes %v beside itself", b.id, isr)
			m.net = append(m.net, modelMessage{kind: "alter", from: b.id, epoch: epoch, members: isr, partition: b.seen.partitionEpoch, member: Member{b.id, b.brokerEpoch}})
		}
	case n < 94:
		if b.up && m.r.IntN(2) == 0 {
			m.crash(b)
		}
	case n < 96:
		if !b.up {
			m.start(b)
			m.say("box %d starts with %d records, broker epoch %d", b.id, len(b.log), b.brokerEpoch)
		} else if m.catalog.registered[b.id] == 0 {
			m.register(b)
			m.say("box %d registers again, broker epoch %d", b.id, b.brokerEpoch)
		}
	case n < 97:
		if m.catalog.registered[b.id] != 0 && (!b.up || m.r.IntN(2) == 0) {
			m.fence(b.id)
		}
	default:
		m.elect()
	}
}

// fetch asks the leader for what comes next.
func (m *model) fetch(b *modelBox) {
	leader, epoch := b.state.Leader()
	if !b.up || leader || b.seen.leader == 0 || b.seen.leader == b.id || b.seen.registered[b.id] != b.brokerEpoch {
		return
	}
	m.send(modelMessage{kind: "fetch", from: b.id, to: b.seen.leader, epoch: epoch, offset: b.state.End(), lastEpoch: b.logEpoch()})
}

// deliver hands over one message, mostly an old one.
func (m *model) deliver() {
	if len(m.net) == 0 {
		return
	}
	i := 0
	if m.r.IntN(4) == 0 {
		i = m.r.IntN(len(m.net))
	}
	msg := m.net[i]
	m.net = slices.Delete(m.net, i, i+1)
	if msg.kind == "alter" {
		m.alter(msg)
		return
	}
	b := m.box(msg.to)
	if !b.up {
		return
	}
	switch msg.kind {
	case "fetch":
		m.answerFetch(b, msg)
	case "fetched":
		m.takeFetched(b, msg)
	case "vouch":
		if _, err := b.state.Vouch(msg.member, msg.epoch, msg.offset, m.now); err == nil {
			m.moved(b)
		}
	case "refused":
		if leader, epoch := b.state.Leader(); leader && epoch == msg.epoch {
			b.state.InSyncRefused()
			m.moved(b)
		}
	}
}

func (m *model) answerFetch(b *modelBox, msg modelMessage) {
	if b.state.CheckEpoch(msg.epoch) != nil {
		return
	}
	answer := modelMessage{kind: "fetched", from: b.id, to: msg.from, epoch: msg.epoch, offset: msg.offset, lastEpoch: msg.lastEpoch, hw: b.state.HighWatermark()}
	if msg.offset > 0 {
		if end := b.leaderEndOf(msg.lastEpoch); end.Epoch < msg.lastEpoch || end.End < msg.offset {
			answer.diverging = &end
			m.send(answer)
			return
		}
	}
	upTo := min(int64(len(b.log)), msg.offset+1+int64(m.r.IntN(3)))
	answer.records = slices.Clone(b.log[msg.offset:upTo])
	m.send(answer)
}

func (m *model) takeFetched(b *modelBox, msg modelMessage) {
	leader, epoch := b.state.Leader()
	if leader || epoch != msg.epoch || msg.offset != b.state.End() || msg.lastEpoch != b.logEpoch() {
		return // an answer to an earlier question
	}
	if msg.diverging != nil {
		to, err := TruncationPoint(*msg.diverging, func(e int32) EpochEnd { return endOf(b.log, e) }, b.state.End())
		if err != nil {
			m.fail("follower %d: %v", b.id, err)
		}
		m.say("follower %d cuts its log %v to %d, answered %+v by %d with %v", b.id, b.log, to, *msg.diverging, msg.from, m.box(msg.from).log)
		b.log = b.log[:to:to]
		b.durable = min(b.durable, len(b.log))
		b.state.Truncated(to, b.logEpoch())
		m.moved(b)
		return
	}
	b.log = append(b.log, msg.records...)
	if len(msg.records) > 0 {
		b.state.Copied(int64(len(b.log)), b.logEpoch())
	}
	b.state.Fetched(msg.hw)
	m.moved(b)
}

// alter is the controller's AlterPartition.
func (m *model) alter(msg modelMessage) {
	c := &m.catalog
	ok := c.leader == msg.from && c.leaderEpoch == msg.epoch && c.partitionEpoch == msg.partition && c.registered[msg.from] == msg.member.Epoch
	for _, x := range msg.members {
		ok = ok && c.registered[x.Broker] == x.Epoch
	}
	if !ok {
		m.net = append(m.net, modelMessage{kind: "refused", to: msg.from, epoch: msg.epoch})
		return
	}
	isr := []int32{msg.from}
	for _, x := range msg.members {
		isr = append(isr, x.Broker)
	}
	for _, id := range c.isr {
		if !slices.Contains(isr, id) && len(isr) < m.min && !slices.Contains(c.elr, id) {
			c.elr = append(c.elr, id)
		}
	}
	c.isr = isr
	c.elr = slices.DeleteFunc(c.elr, func(id int32) bool { return slices.Contains(isr, id) })
	if len(isr) >= m.min {
		c.elr = nil
	}
	c.partitionEpoch++
	m.say("isr %v, elr %v", c.isr, c.elr)
}

// settle lets everything come up again, and expects three equal logs, all of them acknowledged.
func (m *model) settle() {
	for round := 0; ; round++ {
		for _, b := range m.boxes {
			if !b.up {
				m.start(b)
			} else if m.catalog.registered[b.id] != b.brokerEpoch {
				m.register(b)
			}
		}
		m.elect()
		for _, b := range m.boxes {
			m.now += 50 * time.Millisecond
			m.apply(b)
			m.fetch(b)
			b.durable = len(b.log)
			b.state.FlushedTo(int64(b.durable))
			m.moved(b)
			_, epoch := b.state.Leader()
			if offset, ok := b.state.Vouches(); ok && b.seen.leader != 0 {
				m.send(modelMessage{kind: "vouch", from: b.id, to: b.seen.leader, epoch: epoch, offset: offset, member: Member{b.id, b.brokerEpoch}})
			}
			if isr, ok := b.state.ProposeInSync(m.now, time.Second); ok {
				m.alter(modelMessage{kind: "alter", from: b.id, epoch: epoch, members: isr, partition: b.seen.partitionEpoch, member: Member{b.id, b.brokerEpoch}})
			}
		}
		for len(m.net) > 0 {
			m.deliver()
		}
		done := len(m.catalog.isr) == 3
		for _, b := range m.boxes {
			done = done && slices.Equal(b.log, m.boxes[0].log) && b.state.HighWatermark() == int64(len(b.log))
		}
		if done {
			return
		}
		if round > 1000 {
			for _, b := range m.boxes {
				m.say("box %d: %d records, state %+v", b.id, len(b.log), b.state)
			}
			m.fail("the replicas do not agree: catalog %+v", m.catalog)
		}
	}
}

func TestNoAcknowledgedRecordIsLost(t *testing.T) {
	acked, elections := 0, 0
	for seed := *replicationFrom; seed < *replicationFrom+uint64(*replicationSeeds); seed++ {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			for range 1200 {
				m.step()
			}
			m.settle()
			acked, elections = acked+len(m.acked), elections+m.reached
		})
		if !ok {
			return
		}
	}
	if acked < 20**replicationSeeds || elections < *replicationSeeds {
		t.Errorf("%d records acknowledged, %d elections after: the runs show little", acked, elections)
	}
}
