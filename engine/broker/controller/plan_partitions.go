package controller

import (
	"slices"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// growth plans CreatePartitions.
type growth struct {
	req   CreatePartitions
	done  func([]TopicResult)
	order []string
	items map[string]*growthItem
}

type growthItem struct {
	req     MorePartitions
	id      catalog.UUID // of the topic once it was grown; the next steps wait for its states
	err     *Error
	settled bool
}

func newGrowth(req CreatePartitions, done func([]TopicResult)) *growth {
	g := &growth{req: req, done: done, items: map[string]*growthItem{}}
	for _, t := range req.Topics {
		if item, ok := g.items[t.Topic]; ok {
			item.err, item.settled = refuse(kerr.InvalidRequest, "Duplicate topic name."), true
			continue
		}
		g.order = append(g.order, t.Topic)
		g.items[t.Topic] = &growthItem{req: t}
	}
	return g
}

func (g *growth) step(w *work, f *facts) outcome {
	if g.req.ValidateOnly {
		w = w.trial()
	}
	for _, name := range g.order {
		item := g.items[name]
		if item.settled && item.err != nil {
			continue
		}
		if w.full() {
			return again
		}
		if !item.step(w, f, g.req.ValidateOnly) {
			return again
		}
	}
	return ready
}

// step plans one topic's growth; false means that it must be stepped again.
func (i *growthItem) step(w *work, f *facts, trial bool) bool {
	t := w.now.Topic(i.req.Topic)
	if t == nil || t.Deleting || (!i.id.IsZero() && t.ID != i.id) {
		i.err, i.settled = &Error{Kind: kerr.UnknownTopicOrPartition}, true
		return true
	}
	grown := !i.id.IsZero() && int(i.req.Count) == len(t.Partitions)
	if !grown {
		replicas, err := more(w.now, f, t, i.req)
		if err != nil {
			i.err, i.settled = err, true
			return true
		}
		a := catalog.AssignmentOf(t)
		a.Partitions = slices.Concat(a.Partitions, replicas)
		w.do(set(catalog.TopicPath(t.Name), catalog.EncodeTopic(a)))
	}
	if trial {
		return true
	}
	i.id = t.ID
	if !initialStates(w, f, t.Name) {
		return false
	}
	return !slices.ContainsFunc(w.now.Topic(t.Name).Partitions, func(p *catalog.Partition) bool { return !p.HasState })
}

// more chooses or checks the replicas of partitions that are added; the texts are Kafka's.
func more(s *catalog.Snapshot, f *facts, t *catalog.Topic, req MorePartitions) ([][]int32, *Error) {
	have := len(t.Partitions)
	added := int(req.Count) - have
	switch {
	case added == 0:
		return nil, refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case added < 0:
		return nil, refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", t.Name, have, req.Count)
	case added > partitionsPerRequestMax:
		return nil, refuse(kerr.PolicyViolation, "Excessively large number of additional partitions per request.")
	case f.partitionsMax > 0 && s.PartitionCount()+added > f.partitionsMax:
		return nil, refuse(kerr.PolicyViolation, "This cluster takes at most %d partitions and has %d.", f.partitionsMax, s.PartitionCount())
	}
	if req.Assignments == nil {
		return place(s, f, t.ID, have, added, t.ReplicationFactor())
	}
	if len(req.Assignments) != added {
		return nil, refuse(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.",
			added, len(req.Assignments))
	}
	for _, brokers := range req.Assignments {
		if err := checkReplicas(s, brokers, t.ReplicationFactor()); err != nil {
			return nil, err
		}
	}
	return req.Assignments, nil
}

func (g *growth) answer() { g.done(g.results(nil)) }

func (g *growth) fail(err *Error) { g.done(g.results(err)) }

func (g *growth) results(err *Error) []TopicResult {
	results := make([]TopicResult, 0, len(g.order))
	for _, name := range g.order {
		r := TopicResult{Topic: name, Err: g.items[name].err}
		if r.Err == nil {
			r.Err = err
		}
		results = append(results, r)
	}
	return results
}
