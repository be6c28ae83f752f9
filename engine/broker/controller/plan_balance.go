package controller

import (
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/settings"
)

// Leadership goes back to the preferred replicas by itself, by the rule of Kafka's auto.leader.rebalance.enable
// (KafkaController.checkAndTriggerAutoLeaderRebalance; the KRaft controller has dropped the percentage): every so often, for
// the brokers that do not lead more than a tenth of what they should, and never where the preferred replica is not in
// sync, or replicas are being reassigned.

// imbalanceInterval is leader.imbalance.check.interval.seconds; some decades stand for ever.
func imbalanceInterval(s *settings.Broker) time.Duration {
	return time.Second * time.Duration(min(max(s.Int("leader.imbalance.check.interval.seconds"), 1), 1<<30))
}

// misled are the partitions that should go back to their preferred leaders.
func misled(s *catalog.Snapshot, percentage int64) []TopicPartition {
	preferred, others := map[int32]int{}, map[int32]int{}
	each := func(f func(t *catalog.Topic, index int32, p *catalog.Partition)) {
		for t := range s.Topics() {
			for i, p := range t.Partitions {
				if !t.Deleting && p.HasState {
					f(t, int32(i), p)
				}
			}
		}
	}
	each(func(_ *catalog.Topic, _ int32, p *catalog.Partition) {
		preferred[p.Replicas[0]]++
		if strays(s, p) {
			others[p.Replicas[0]]++
		}
	})
	var list []TopicPartition
	each(func(t *catalog.Topic, index int32, p *catalog.Partition) {
		first := p.Replicas[0]
		if strays(s, p) && int64(others[first])*100 > percentage*int64(preferred[first]) {
			list = append(list, TopicPartition{t.Name, index})
		}
	})
	return list
}

// strays reports whether another broker than the preferred one leads.
func strays(s *catalog.Snapshot, p *catalog.Partition) bool {
	leader := s.LeaderOf(p)
	return leader != catalog.NoLeader && leader != p.Replicas[0]
}

// planBalance gives partitions back to their preferred leaders, when that is due and as far as the multi has room. What a failed
// multi has lost comes again with the next round.
func (o *owner) planBalance(w *work) {
	if !o.registered(w.now) {
		return
	}
	if o.now >= o.balanceAt {
		s := w.now.Settings
		o.balanceAt = o.now + imbalanceInterval(s)
		o.balancing = nil
		if s.Bool("auto.leader.rebalance.enable") && !w.now.Rebalance.Paused {
			o.balancing = misled(w.now, s.Int("leader.imbalance.per.broker.percentage"))
		}
	}
	for len(o.balancing) > 0 && !w.full() {
		tp := o.balancing[0]
		o.balancing = o.balancing[1:]
		t := w.now.Topic(tp.Topic)
		if t == nil || t.Deleting {
			continue
		}
		p := t.Partition(tp.Partition)
		if p == nil || !p.HasState || p.Reassigning() || !strays(w.now, p) {
			continue
		}
		next, changed := elect(w.now, &o.facts, t, tp.Partition, p, preferredElection)
		if changed && next.Leader == p.Replicas[0] {
			w.do(setState(t, tp.Partition, next))
		}
	}
}
