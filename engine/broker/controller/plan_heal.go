package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/settings"
)

// Topics for which nobody has asked for a replication factor (AutoReplication, Kafka's own topics among them) follow the cluster:
// they grow to min(3, brokers) as boxes join, and the replicas of a box that stays away are made anew elsewhere. Both are
// reassignments like an operator's, which can be seen and cancelled with Kafka's tools; few at a time, and none while somebody
// has paused it. Nothing ever shrinks: a lost replica leaves only for one that has taken its place in the ISR. That leaders
// follow is plan_balance.go's.

const (
	// movesMax is how many partitions of the cluster move at the same time, those of an operator's reassignments included;
	// with so many under way no more are begun. One that waits for a box that is away does not count.
	movesMax = 10
	// healInterval is how soon after a change of the catalog it is looked at again.
	healInterval = time.Second
)

// seat is where replicas are: a broker, and which of its log directories, zero for all of them; or one replica of it alone, which its
// broker cannot serve though it has the directory.
type seat struct {
	broker    int32
	directory catalog.UUID
	alone     replicaKey
}

// absences are the seats that replicas name and that are not there, each with the moment at which this controller has noticed.
// A new controller begins to count anew: it must not be hasty.
type absences map[seat]time.Duration

// seatOf is the seat of a replica that cannot be served; ok is false for one that can.
func seatOf(s *catalog.Snapshot, p *catalog.Partition, id int32) (lost seat, ok bool) {
	switch {
	case s.Broker(id) == nil:
		return seat{broker: id}, true
	case s.ReplicaOnline(p, id):
		return seat{}, false
	case p.Directory(id).Reserved() || s.Broker(id).HasDirectory(p.Directory(id)):
		return seat{broker: id, alone: replicaKey{p.Topic, p.Index}}, true
	}
	return seat{broker: id, directory: p.Directory(id)}, true
}

// wish is a partition that is not as it should be.
type wish struct {
	topic     *catalog.Topic
	partition int32
	want      int     // replicas
	lost      []int32 // those that are away for too long
	why       string  // that nothing is done about it; empty: it can be done at once
}

// awayMax is cairn.rebalance.away.ms; a century stands for ever.
func awayMax(s *catalog.Snapshot) time.Duration {
	return min(s.Settings.Milliseconds("cairn.rebalance.away.ms"), 100*365*24*time.Hour)
}

// survey is what there is to do in a snapshot, and what is under way.
type survey struct {
	moving []TopicPartition
	active int    // how many of those that move copy something
	wishes []wish // the fewest in sync first
	absent absences
	due    time.Duration // when the next absence has lasted for too long; 0: none
}

// look surveys all topics. It is called at most once in healInterval.
func look(s *catalog.Snapshot, f *facts, before absences) survey {
	v := survey{absent: absences{}}
	limit := awayMax(s)
	want := settings.AutoReplication(s.BrokerCount())
	for t := range s.Topics() {
		if t.Deleting {
			continue
		}
		for i, p := range t.Partitions {
			target := p.Target()
			if p.Reassigning() {
				v.moving = append(v.moving, TopicPartition{t.Name, int32(i)})
				if slices.ContainsFunc(target, func(id int32) bool { return !slices.Contains(p.ISR, id) && s.ReplicaOnline(p, id) }) {
					v.active++
				}
			}
			if !t.AutoReplication || !p.HasState {
				continue
			}
			one := wish{topic: t, partition: int32(i), want: max(want, len(target))}
			for _, id := range target {
				if at, ok := seatOf(s, p, id); ok && v.missed(f, before, at, limit) {
					one.lost = append(one.lost, id)
				}
			}
			if len(one.lost) == 0 && (len(target) >= want || p.Reassigning()) {
				continue
			}
			if s.LeaderOf(p) == catalog.NoLeader {
				one.why = "it has no leader that a new replica could copy"
			}
			v.wishes = append(v.wishes, one)
		}
	}
	slices.SortStableFunc(v.wishes, func(a, b wish) int {
		return cmp.Compare(len(a.topic.Partitions[a.partition].ISR), len(b.topic.Partitions[b.partition].ISR))
	})
	return v
}

// missed notes an absence, and reports whether it lasts for too long.
func (v *survey) missed(f *facts, before absences, at seat, limit time.Duration) bool {
	since, known := before[at]
	if !known {
		since = f.now
	}
	v.absent[at] = since
	if f.now-since >= limit {
		return true
	}
	if due := since + limit; v.due == 0 || due < v.due {
		v.due = due
	}
	return false
}

// heal plans as many of the wishes as may be under way. It notes at each of the others why not. moves is false while it is
// paused, and for somebody who only wants to know.
func (v *survey) heal(w *work, f *facts, moves bool) {
	left := movesMax - v.active
	changes := map[string]*healing{}
	var order []*healing
	for i := range v.wishes {
		one := &v.wishes[i]
		if one.why != "" {
			continue
		}
		h := changes[one.topic.Name]
		if h == nil {
			h = newHealing(w.now, f, one.topic)
			changes[one.topic.Name] = h
		}
		p := one.topic.Partitions[one.partition]
		target := h.target(one)
		var anew *catalog.Partition
		if target == nil {
			anew = renewed(w.now, one)
		}
		switch {
		case target == nil && anew == nil:
			one.why = "no broker is left that has none of it"
			continue
		case !moves:
			one.why = "paused"
			continue
		case left <= 0:
			one.why = fmt.Sprintf("%d partitions move, which is as many as may at a time", movesMax)
			continue
		case w.full():
			one.why = "its turn comes in a moment"
			continue
		}
		to, state := anew, &catalog.PartitionState{}
		if anew != nil {
			*state, target = settled(w.now, f, one.topic, one.partition, p, anew), p.Target()
		} else if to, state = moved(w.now, f, one.topic, one.partition, p, target); to == nil {
			continue
		}
		if len(h.reshape.ops) == 0 && h.reshape.assignment == nil {
			order = append(order, h)
		}
		h.reshape.set(one.partition, to, state)
		h.took(p, target)
		left--
	}
	for _, h := range order {
		h.reshape.plan(w)
	}
}

// healing is one topic in the course of heal.
type healing struct {
	reshape reshape
	sites   []*site
}

func newHealing(s *catalog.Snapshot, f *facts, t *catalog.Topic) *healing {
	h := &healing{reshape: reshape{topic: t}, sites: sites(s, f, t.ID, 1)}
	for _, at := range h.sites {
		for _, p := range t.Partitions {
			if i := slices.Index(p.Target(), at.id); i >= 0 {
				at.took(i == 0, false)
			}
		}
	}
	return h
}

// target are the replicas that a wish comes to: each lost one replaced by a broker that has none, in its place, and more behind
// them; nil where nobody is there for it. One that a reassignment was about to add, and nobody can replace, is given up. Where the topic grows, the broker that leads the least of it comes first, so that
// what began on one box is led by all of them in the end.
func (h *healing) target(one *wish) []int32 {
	p := one.topic.Partitions[one.partition]
	target := slices.Clone(p.Target())
	var has, free []*site
	for _, at := range h.sites {
		switch {
		case !slices.Contains(target, at.id):
			free = append(free, at)
		case !slices.Contains(one.lost, at.id):
			has = append(has, at)
		}
	}
	take := func() (id int32, ok bool) {
		next := nextSite(append(slices.Clone(has), free...), has, int(one.partition))
		if next == nil {
			return 0, false
		}
		has = append(has, next)
		return next.id, true
	}
	changed := false
	for _, id := range one.lost {
		i := slices.Index(target, id)
		if other, ok := take(); ok {
			target[i], changed = other, true
		} else if slices.Contains(p.Adding, id) && len(target) > 1 {
			target, changed = slices.Delete(target, i, i+1), true
		}
	}
	grows := false
	for len(target) < one.want {
		other, ok := take()
		if !ok {
			break
		}
		target, changed, grows = append(target, other), true, true
	}
	if !changed {
		return nil
	}
	if grows {
		h.preferOther(target, has)
	}
	return target
}

// renewed is a partition whose lost replicas begin anew on other disks of their own boxes; nil where there are none. One that its box cannot
// serve on a disk that works is left to that box. It is for a
// box with a new disk in a cluster that has no other box for it. Nothing that counts is given up: they are neither in sync
// nor eligible. The leader epoch is to be a new one, for a box that has not registered since: what the lost replica has vouched for in
// the present one says nothing about the empty one.
func renewed(s *catalog.Snapshot, one *wish) (to *catalog.Partition) {
	p := one.topic.Partitions[one.partition]
	for _, id := range one.lost {
		b := s.Broker(id)
		if b == nil || p.CountsOn(id) {
			continue
		}
		directory := chooseDirectory(b, one.topic.ID, one.partition)
		if directory.IsZero() || directory == p.Directory(id) {
			continue
		}
		if to == nil {
			to = p.With(p.Replicas, p.Adding, p.Removing)
		}
		to.Directories[slices.Index(to.Replicas, id)] = directory
	}
	return to
}

// preferOther moves a broker to the front that is to lead less than the one that stands there.
func (h *healing) preferOther(target []int32, has []*site) {
	first := slices.IndexFunc(has, func(at *site) bool { return at.id == target[0] })
	if first < 0 {
		return
	}
	best := slices.MinFunc(has, func(a, b *site) int {
		return cmp.Or(cmp.Compare(a.topicPreferred, b.topicPreferred), cmp.Compare(a.load.leaders, b.load.leaders), cmp.Compare(a.turn, b.turn))
	})
	inTopic, inAll := has[first].topicPreferred-best.topicPreferred, has[first].load.leaders-best.load.leaders
	if inTopic > 1 || inTopic == 1 && inAll > 1 {
		i := slices.Index(target, best.id)
		copy(target[1:i+1], target[:i])
		target[0] = best.id
	}
}

// took notes what a move changes, for those of the same topic that come after it.
func (h *healing) took(p *catalog.Partition, target []int32) {
	for _, at := range h.sites {
		switch had, has := slices.Index(p.Target(), at.id), slices.Index(target, at.id); {
		case had < 0 && has >= 0:
			at.took(has == 0, true)
		case had > 0 && has == 0:
			at.topicPreferred++
			at.load.leaders++
		case had == 0 && has != 0:
			at.topicPreferred--
			at.load.leaders--
		}
	}
}

// healLater has the catalog looked at in a moment.
func (o *owner) healLater(in time.Duration) {
	if at := o.now + in; o.healAt == 0 || at < o.healAt {
		o.healAt = at
	}
}

// planHealing looks at the catalog if that is due.
func (o *owner) planHealing(w *work) {
	if o.healAt == 0 || o.now < o.healAt || o.now < o.electAt || o.all || len(o.dirty) > 0 || w.full() || !o.registered(w.now) {
		return
	}
	v := look(w.now, &o.facts, o.facts.absent)
	o.facts.absent, o.healAt = v.absent, 0
	v.heal(w, &o.facts, !w.now.Rebalance.Paused)
	if v.due > 0 {
		o.healAt = v.due
	}
}
