package controller

import (
	"cmp"
	"encoding/binary"
	"slices"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// load is how many replicas each broker has, and of how many partitions it is the preferred leader, in a snapshot. It follows
// from one snapshot to any other at the cost of what differs between them.
type load struct {
	at      *catalog.Snapshot
	brokers map[int32]brokerLoad
}

type brokerLoad struct{ replicas, leaders int }

// follow brings the counts to a snapshot. Replicas count from the moment at which they are wanted, and until they are not.
func (l *load) follow(s *catalog.Snapshot) {
	if l.at == s {
		return
	}
	if l.at == nil || l.brokers == nil {
		l.at, l.brokers = catalog.Empty(s.Base()), map[int32]brokerLoad{}
	}
	catalog.Diff(l.at, s, func(before, after *catalog.Topic) {
		l.topic(before, after, -1)
		l.topic(after, before, 1)
	})
	l.at = s
}

// topic counts the partitions of a topic that another state of it does not have: a change of the replicas makes all of them
// anew, and one of a state keeps them.
func (l *load) topic(t, other *catalog.Topic, by int) {
	if t == nil {
		return
	}
	for i, p := range t.Partitions {
		if other == nil || i >= len(other.Partitions) || &other.Partitions[i].Replicas[0] != &p.Replicas[0] {
			l.add(p.Target(), by)
		}
	}
}

// add counts one partition's replicas, or takes them away.
func (l *load) add(replicas []int32, by int) {
	for i, id := range replicas {
		b := l.brokers[id]
		b.replicas += by
		if i == 0 {
			b.leaders += by
		}
		l.brokers[id] = b
	}
}

// site is a broker that may be given replicas.
type site struct {
	id   int32
	rack string
	turn int // the place in the order of a topic: what is equal otherwise goes round
	room int // 1 to 11: how much of the space for logs is left

	load                          brokerLoad
	topicReplicas, topicPreferred int // of the topic that is placed
}

// sites are the brokers that can take replicas, in the order in which a topic goes round. Those that are about to stop, or
// whose directories have all failed, are left out as long as factor others are there.
func sites(s *catalog.Snapshot, f *facts, topic catalog.UUID, factor int) []*site {
	f.load.follow(s)
	var good, all []*site
	for b := range s.Brokers() {
		at := &site{id: b.ID, rack: b.Rack, room: 11 - b.UsedTenths, load: f.load.brokers[b.ID]}
		all = append(all, at)
		if !f.leaving.has(s, b.ID) && (len(b.LogDirs) == 0 || slices.ContainsFunc(b.LogDirs, func(d catalog.LogDir) bool { return !d.Failed })) {
			good = append(good, at)
		}
	}
	if len(good) >= factor {
		all = good
	}
	if n := len(all); n > 0 {
		start := int(binary.BigEndian.Uint32(topic[:4]) % uint32(n))
		for i, at := range all {
			at.turn = (i - start + n) % n
		}
	}
	return all
}

// place spreads partitions over the brokers. Each is led first by the broker that leads the fewest of the topic, and then of
// all; its other replicas go to racks that have none of it yet, and there to those with the fewest replicas, of the topic
// and then of all. Of all, a broker has its share by the space that it has left: one whose disk is half full is given half as
// many as an empty one. What is equal goes round, from a broker that the topic's id decides, and followers are shifted with every
// round, so that what a lost broker led is taken over by many. A rack without a name is one as others are, as in Kafka's
// StripedReplicaPlacer; unlike there, the counts are those of the whole cluster: many small topics would not balance.
func place(s *catalog.Snapshot, f *facts, topic catalog.UUID, first, partitions, factor int) ([][]int32, *Error) {
	all := sites(s, f, topic, factor)
	n := len(all)
	refused := func(reason string, args ...any) ([][]int32, *Error) {
		return nil, refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): "+reason, append([]any{factor}, args...)...)
	}
	if n == 0 {
		return refused("All brokers are currently fenced.")
	}
	if factor > n {
		return refused("The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", factor, n)
	}
	if t := s.TopicByID(topic); t != nil {
		for _, at := range all {
			for _, p := range t.Partitions {
				if i := slices.Index(p.Target(), at.id); i >= 0 {
					at.took(i == 0, false)
				}
			}
		}
	}
	replicas := make([][]int32, partitions)
	for i := range replicas {
		turn := first + i
		leader := slices.MinFunc(all, func(a, b *site) int {
			return cmp.Or(cmp.Compare(a.topicPreferred, b.topicPreferred), compareShares(a, b, a.load.leaders, b.load.leaders),
				compareShares(a, b, a.load.replicas, b.load.replicas), cmp.Compare(a.after(turn, n), b.after(turn, n)))
		})
		chosen := []*site{leader}
		leader.took(true, true)
		for len(chosen) < factor {
			next := nextSite(all, chosen, leader.turn+1+turn/n)
			next.took(false, true)
			chosen = append(chosen, next)
		}
		for _, at := range chosen {
			replicas[i] = append(replicas[i], at.id)
		}
	}
	return replicas, nil
}

// compareShares compares what two sites would have with one more, each by its room.
func compareShares(a, b *site, hasA, hasB int) int {
	return cmp.Compare((hasA+1)*b.room, (hasB+1)*a.room)
}

// after is how far a site stands from the one whose turn it is.
func (at *site) after(turn, n int) int { return ((at.turn-turn)%n + n) % n }

// took notes a replica of the topic; fresh says that the load does not count it yet.
func (at *site) took(preferred, fresh bool) {
	at.topicReplicas++
	if fresh {
		at.load.replicas++
	}
	if preferred {
		at.topicPreferred++
		if fresh {
			at.load.leaders++
		}
	}
}

// nextSite is the best one beside those that a partition has; nil if it has all.
func nextSite(all, has []*site, turn int) (best *site) {
	inRack := func(rack string) (n int) {
		for _, at := range has {
			if at.rack == rack {
				n++
			}
		}
		return n
	}
	bestRack := 0
	for _, at := range all {
		if slices.Contains(has, at) {
			continue
		}
		rack := inRack(at.rack)
		if best == nil || cmp.Or(cmp.Compare(rack, bestRack), cmp.Compare(at.topicReplicas, best.topicReplicas),
			compareShares(at, best, at.load.replicas, best.load.replicas), cmp.Compare(at.after(turn, len(all)), best.after(turn, len(all)))) < 0 {
			best, bestRack = at, rack
		}
	}
	return best
}
