package controller

import (
	"maps"
	"slices"

	"cairn/engine/broker/catalog"
)

// plan makes the next multi: deletions first, which make room, then requests in their order, then elections. It returns
// true when there is no multi and requests were answered, so that others may be planned at once.
func (o *owner) plan() bool {
	o.retryAt = 0
	s := o.catalog.Current()
	o.notice(s)
	w := &work{now: s}
	w.do(catalog.Op{Kind: catalog.OpCheck, Path: catalog.ControllerEpochPath, Version: o.version})
	checks := len(w.ops)
	o.planRemovals(w)
	if o.single {
		o.planElections(w) // alone, and first: there may be requests for ever
	}
	answered := false
	if !o.single || len(w.ops) == checks {
		answered = o.planRequests(w)
	}
	if !o.single {
		o.planElections(w)
		o.planHealing(w)
		o.planBalance(w)
	}
	if len(w.ops) > checks {
		o.multi(w.ops)
		return false
	}
	if answered {
		o.finish(nil) // the catalog shows it already, or nothing was to be changed
	}
	return answered && len(o.requests) > 0
}

// planRequests steps the requests in their order; it reports whether any can be answered.
func (o *owner) planRequests(w *work) (answered bool) {
	if !o.registered(w.now) {
		return false
	}
	for _, p := range o.requests {
		before := len(w.ops)
		if w.full() {
			break
		}
		if p.plan.step(w, &o.facts) == ready {
			p.inFlight, answered = true, true
		}
		p.part = len(w.ops) > before
		if o.single && (p.part || answered) {
			return answered
		}
	}
	o.single = false // all have been tried
	return answered
}

// notice derives from the changes of the catalog what must be looked at.
func (o *owner) notice(s *catalog.Snapshot) {
	if o.planned == nil {
		o.all, o.sweep = true, ""
	} else if o.planned != s {
		catalog.Diff(o.planned, s, func(_, after *catalog.Topic) {
			if after != nil {
				o.dirty[after.Name] = true
			}
		})
		if !catalog.SameBrokers(o.planned, s) {
			o.all, o.sweep = true, ""
			o.facts.leaving.forget(s)
		}
	}
	if o.planned != s {
		o.healLater(healInterval)
	}
	o.planned = s
	o.askBrokers(s)
}

// askBrokers asks every new registration what its logs hold. This box's registration of an earlier start is not asked:
// it is about to be replaced.
func (o *owner) askBrokers(s *catalog.Snapshot) {
	for b := range s.Brokers() {
		if !o.facts.epochs.needs(b) || (b.ID == o.cfg.BrokerID && b.Incarnation != o.cfg.Incarnation) {
			continue
		}
		o.facts.epochs.asking(b)
		id, epoch, post := b.ID, b.Epoch, o.post
		o.brokers.HighestEpochs(id, func(logs []PartitionEpoch, err error) {
			post(message{kind: epochsReported, broker: id, epoch: epoch, logs: logs, err: err})
		})
	}
}

func (o *owner) epochsReported(m *message) {
	if m.err != nil {
		o.log.Warn("a broker did not say what its logs hold", "broker", m.broker, "error", m.err)
		o.facts.epochs.failed(m.broker, m.epoch)
		o.retryAt = o.now + retryDelay
		return
	}
	if o.facts.epochs.report(m.broker, m.epoch, m.logs, o.catalog.Current()) {
		o.all, o.sweep = true, ""
	}
}

// registered reports whether the catalog shows this box's broker, if it has one. Before that nothing is planned: a topic
// would be refused for want of brokers.
func (o *owner) registered(s *catalog.Snapshot) bool {
	b := s.Broker(o.cfg.BrokerID)
	return o.cfg.Incarnation.IsZero() || (b != nil && b.Incarnation == o.cfg.Incarnation)
}

// planElections looks at the partitions that may need a new state, as far as the multi has room.
func (o *owner) planElections(w *work) {
	if o.now < o.electAt || !o.registered(w.now) {
		return // its partitions would lose their leaders only to get them back
	}
	if o.all {
		for t := range w.now.TopicsFrom(o.sweep) {
			if w.full() || !reconcile(w, &o.facts, t.Name) {
				o.sweep = t.Name
				return
			}
			delete(o.dirty, t.Name)
		}
		o.all, o.sweep = false, "" // what changed behind the sweep is still dirty
	}
	for _, name := range slices.Sorted(maps.Keys(o.dirty)) {
		if w.full() || !reconcile(w, &o.facts, name) {
			return
		}
		delete(o.dirty, name)
	}
}

// planRemovals takes marked topics away once their brokers have dropped them.
func (o *owner) planRemovals(w *work) {
	for name := range w.now.Deletions() {
		if w.full() {
			return
		}
		t := w.now.Topic(name)
		if t == nil {
			planRemoval(w, name)
			continue
		}
		r := o.removals[t.ID]
		if r == nil {
			r = o.beginRemoval(w.now, t)
		}
		if len(r.waiting) > 0 && o.now < r.until {
			continue
		}
		if planRemoval(w, name) {
			delete(o.removals, t.ID)
		}
	}
}

func (o *owner) beginRemoval(s *catalog.Snapshot, t *catalog.Topic) *removal {
	r := &removal{topic: t.ID, name: t.Name, waiting: map[int32]bool{}, until: o.now + dropTimeout}
	o.removals[t.ID] = r
	for _, broker := range holders(s, t) {
		r.waiting[broker] = true
		id, topic, post := broker, t.ID, o.post
		o.brokers.DropTopic(id, topic, func(err error) {
			post(message{kind: topicDropped, broker: id, topic: topic, err: err})
		})
	}
	return r
}
