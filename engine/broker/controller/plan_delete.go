package controller

import (
	"slices"
	"time"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// deletion plans DeleteTopics. It marks the topics and is ready when they are gone; removal (below) takes them away.
type deletion struct {
	req     DeleteTopics
	done    func([]DeletedTopic)
	results []DeletedTopic
	targets []target // what was found; decided once, so that a topic that is created again meanwhile is left alone
	checked bool
}

type target struct {
	name string
	id   catalog.UUID
}

func (d *deletion) step(w *work, f *facts) outcome {
	if !d.checked {
		d.check(w.now)
	}
	gone := true
	for _, t := range d.targets {
		topic := w.now.TopicByID(t.id)
		if topic == nil {
			continue
		}
		gone = false
		if topic.Deleting {
			continue
		}
		if w.full() {
			return again
		}
		w.do(create(catalog.DeleteTopicPath(topic.Name), catalog.EncodeDeletion(t.id)))
	}
	if gone {
		return ready
	}
	return again
}

// check resolves names and ids; the texts are Kafka's (ControllerApis.deleteTopics).
func (d *deletion) check(s *catalog.Snapshot) {
	d.checked = true
	answerWith := func(name *string, id catalog.UUID, err *Error) {
		d.results = append(d.results, DeletedTopic{Name: name, ID: id, Err: err})
	}
	if !s.Settings.Bool("delete.topic.enable") {
		for _, r := range d.req.Topics {
			answerWith(r.Name, r.ID, &Error{Kind: kerr.TopicDeletionDisabled})
		}
		return
	}
	names, ids := map[string]int{}, map[catalog.UUID]int{}
	for _, r := range d.req.Topics {
		if r.Name != nil && r.ID.IsZero() {
			names[*r.Name]++
		} else if r.Name == nil {
			ids[r.ID]++
		}
	}
	for _, r := range d.req.Topics {
		switch {
		case r.Name != nil && !r.ID.IsZero():
			answerWith(r.Name, r.ID, refuse(kerr.InvalidRequest, "You may not specify both topic name and topic id."))
		case r.Name != nil:
			d.byName(s, *r.Name, names, ids, answerWith)
		case r.ID.IsZero():
			answerWith(nil, r.ID, refuse(kerr.InvalidRequest, "Neither topic name nor id were specified."))
		default:
			d.byID(s, r.ID, ids, answerWith)
		}
	}
}

func (d *deletion) byName(s *catalog.Snapshot, name string, names map[string]int, ids map[catalog.UUID]int, answerWith func(*string, catalog.UUID, *Error)) {
	if names[name] != 1 {
		if names[name] > 1 {
			answerWith(&name, catalog.ZeroUUID, refuse(kerr.InvalidRequest, "Duplicate topic name."))
		}
		names[name] = 0
		return
	}
	t := s.Topic(name)
	switch {
	case t == nil || t.Deleting:
		answerWith(&name, catalog.ZeroUUID, &Error{Kind: kerr.UnknownTopicOrPartition})
	case ids[t.ID] > 0:
		answerWith(&name, t.ID, refuse(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied."))
		ids[t.ID] = 0
	default:
		d.found(t, answerWith)
	}
}

func (d *deletion) byID(s *catalog.Snapshot, id catalog.UUID, ids map[catalog.UUID]int, answerWith func(*string, catalog.UUID, *Error)) {
	if ids[id] != 1 {
		if ids[id] > 1 {
			answerWith(nil, id, refuse(kerr.InvalidRequest, "Duplicate topic id."))
		}
		ids[id] = 0
		return
	}
	t := s.TopicByID(id)
	if t == nil || t.Deleting {
		answerWith(nil, id, &Error{Kind: kerr.UnknownTopicID})
		return
	}
	d.found(t, answerWith)
}

func (d *deletion) found(t *catalog.Topic, answerWith func(*string, catalog.UUID, *Error)) {
	if !slices.ContainsFunc(d.targets, func(x target) bool { return x.id == t.ID }) {
		d.targets = append(d.targets, target{name: t.Name, id: t.ID})
	}
	name := t.Name
	answerWith(&name, t.ID, nil)
}

func (d *deletion) answer() { d.done(d.results) }

func (d *deletion) fail(err *Error) {
	if !d.checked {
		for _, r := range d.req.Topics {
			d.results = append(d.results, DeletedTopic{Name: r.Name, ID: r.ID, Err: err})
		}
	}
	for i := range d.results {
		if d.results[i].Err == nil {
			d.results[i].Err = err
		}
	}
	d.done(d.results)
}

// dropTimeout is how long removal waits for brokers to say that they have dropped a topic. One that does not say it
// finds the topic gone later, and sets what it holds aside.
const dropTimeout = 10 * time.Second

// removal takes a marked topic away: first the brokers that hold it drop it, then its znodes go.
type removal struct {
	topic   catalog.UUID
	name    string
	waiting map[int32]bool // brokers that have not yet dropped it
	until   time.Duration
}

// holders are the registered brokers that hold replicas of a topic.
func holders(s *catalog.Snapshot, t *catalog.Topic) []int32 {
	var brokers []int32
	for _, p := range t.Partitions {
		for _, r := range p.Replicas {
			if !slices.Contains(brokers, r) && s.Broker(r) != nil {
				brokers = append(brokers, r)
			}
		}
	}
	return brokers
}

// planRemoval removes a topic's znodes, children first. It returns false when the multi is full and something is left.
func planRemoval(w *work, name string) bool {
	t := w.now.Topic(name)
	if t == nil {
		w.do(remove(catalog.DeleteTopicPath(name))) // a mark without a topic
		return true
	}
	var ops []catalog.Op
	size := w.bytes
	add := func(op catalog.Op) {
		ops = append(ops, op)
		size += op.Size()
	}
	for i, p := range t.Partitions {
		if len(w.ops)+len(ops) >= multiOpsMax || size >= multiBytesMax {
			w.do(ops...)
			return false
		}
		if p.StateNode {
			add(remove(catalog.StatePath(name, int32(i))))
		}
		if p.Node {
			add(remove(catalog.PartitionPath(name, int32(i))))
		}
	}
	if t.PartitionsNode {
		add(remove(catalog.PartitionsPath(name)))
	}
	if w.now.HasTopicConfig(name) {
		add(remove(catalog.TopicConfigPath(name)))
	}
	add(remove(catalog.TopicPath(name)))
	add(remove(catalog.DeleteTopicPath(name)))
	w.do(ops...)
	return true
}
