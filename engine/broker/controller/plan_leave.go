package controller

import (
	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Leave asks, in the name of a broker that is about to stop, for others to lead what it leads (Kafka's controlled shutdown;
// KIP-631 asks for it with a heartbeat). It leaves the in-sync replicas too where others are in them, so that nobody waits for
// it, and comes back into none before it has registered anew.
type Leave struct {
	Broker int32
	// BrokerEpoch is that of the registration that ends.
	BrokerEpoch int64
}

// Leave moves leaders off a broker. led is how many partitions it leads still, because nobody else has their records.
func (c *Controller) Leave(req Leave, done func(led int, err error)) {
	c.submit(&leave{req: req, done: func(led int, err *Error) {
		if err != nil {
			done(led, err)
			return
		}
		done(led, nil)
	}}, requestTimeout)
}

// leave plans Leave.
type leave struct {
	req  Leave
	done func(led int, err *Error)
	led  int
	err  *Error
}

func (l *leave) step(w *work, f *facts) outcome {
	l.led, l.err = 0, nil
	if b := w.now.Broker(l.req.Broker); b == nil || b.Epoch != l.req.BrokerEpoch {
		l.err = &Error{Kind: kerr.StaleBrokerEpoch}
		return ready
	}
	f.leaving[l.req.Broker] = l.req.BrokerEpoch
	for t := range w.now.TopicsFrom("") {
		if w.full() || !reconcile(w, f, t.Name) {
			return again // what is planned by now needs nothing the next time
		}
	}
	for t := range w.now.Topics() {
		for _, p := range t.Partitions {
			if p.HasState && w.now.LeaderOf(p) == l.req.Broker {
				l.led++
			}
		}
	}
	return ready
}

func (l *leave) answer() { l.done(l.led, l.err) }

func (l *leave) fail(err *Error) { l.done(0, err) }

// leaving are the brokers that are about to stop, by id, each with the epoch of the registration that ends.
type leaving map[int32]int64

// has reports whether a broker is about to stop in its present registration.
func (l leaving) has(s *catalog.Snapshot, id int32) bool {
	epoch, ok := l[id]
	if !ok {
		return false
	}
	b := s.Broker(id)
	return b != nil && b.Epoch == epoch
}

// forget drops those whose registration has ended.
func (l leaving) forget(s *catalog.Snapshot) {
	for id := range l {
		if !l.has(s, id) {
			delete(l, id)
		}
	}
}
