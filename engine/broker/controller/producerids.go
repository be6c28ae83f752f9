package controller

import "sync"

// ProducerIDs hands out single producer ids from blocks that the controller gives. Ids of a block that is not used up
// are lost when the box stops, as in Kafka (RPCProducerIdManager).
type ProducerIDs struct {
	allocate func(done func(first int64, count int32, err error))

	mu       sync.Mutex // protects the fields below; nothing is called while it is held
	next     int64
	left     int32
	fetching bool
	waiting  []func(id int64, err error)
}

// NewProducerIDs makes a dispenser over Controller.AllocateProducerIDs.
func NewProducerIDs(allocate func(done func(first int64, count int32, err error))) *ProducerIDs {
	return &ProducerIDs{allocate: allocate}
}

// Next calls done once with an id that nobody else gets, at once or after a round of agreement. The requests that wait
// are bounded by the connections that ask.
func (p *ProducerIDs) Next(done func(id int64, err error)) {
	p.mu.Lock()
	if p.left > 0 {
		id := p.next
		p.next++
		p.left--
		p.mu.Unlock()
		done(id, nil)
		return
	}
	p.waiting = append(p.waiting, done)
	fetch := !p.fetching
	p.fetching = true
	p.mu.Unlock()
	if fetch {
		p.allocate(p.arrived)
	}
}

// arrived serves those who wait from a new block, in order, and asks for another one while some are left.
func (p *ProducerIDs) arrived(first int64, count int32, err error) {
	p.mu.Lock()
	waiting := p.waiting
	served := len(waiting)
	if err == nil {
		served = min(served, int(count))
		p.next, p.left = first+int64(served), count-int32(served)
	}
	p.waiting = waiting[served:]
	p.fetching = len(p.waiting) > 0
	again := p.fetching
	p.mu.Unlock()
	for i, done := range waiting[:served] {
		if err != nil {
			done(0, err)
		} else {
			done(first+int64(i), nil)
		}
	}
	if again {
		p.allocate(p.arrived)
	}
}
