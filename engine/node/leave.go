package node

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/controller"
)

const (
	// leaveTime is how long a stop waits until others lead what this box leads (Kafka: controlled.shutdown.max.retries).
	leaveTime = 4 * time.Second
	// leaveAgain is the pause after a try that failed, as all do while there is no controller.
	leaveAgain = 50 * time.Millisecond
)

// leave has others lead what this box leads, before it stops: clients find a leader at once. It gives up where there is no
// majority of the ensemble, or nobody else is in sync; what then has no leader gets one when the box is gone, or is back.
func (b *broker) leave() {
	epoch := b.brokerEpoch.Load()
	if b.n.boxes == nil || epoch == 0 {
		return
	}
	b.stopping.Store(true)
	log := b.n.deps.Observer.Log
	began := time.Now()
	var led int
	var err error
	for time.Since(began) < leaveTime && b.n.ensemble.Serving() {
		type left struct {
			led int
			err error
		}
		done := make(chan left, 1)
		b.askLeave(controller.Leave{Broker: b.n.id.box, BrokerEpoch: epoch}, func(led int, err error) { done <- left{led, err} })
		select {
		case l := <-done:
			led, err = l.led, l.err
		case <-time.After(leaveTime - time.Since(began)):
			led, err = 0, errNoTime
		}
		if err == nil || errors.Is(err, kerr.StaleBrokerEpoch) {
			break
		}
		time.Sleep(leaveAgain)
	}
	switch {
	case err != nil:
		log.Warn("this broker stops and may lead partitions still", "error", err)
	case led > 0:
		log.Warn("this broker stops and leads partitions still: no other replica of them is in sync", "partitions", led)
	default:
		log.Info("others lead what this broker led", "after", time.Since(began).Round(time.Millisecond))
	}
	b.fetcher.Registered(0) // it vouches for nothing more, so that it is not let in again
}

// askLeave is controller.Leave, on whichever box is the controller.
func (b *broker) askLeave(req controller.Leave, done func(led int, err error)) {
	b.controller.Leave(req, func(led int, err error) {
		if box, ok := b.elsewhere(err); ok {
			b.n.boxes.ask(box, question{What: askLeave, Leave: &req}, func(r reply, err error) { done(int(r.Count), err) })
			return
		}
		done(led, err)
	})
}
