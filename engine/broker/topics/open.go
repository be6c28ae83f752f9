package topics

import (
	"errors"
	"fmt"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// openNext opens as many queued partitions as may be opened at the same time.
func (o *owner) openNext() {
	for len(o.queue) > 0 && o.opening < o.cfg.OpensMax && o.stopping == nil {
		p := o.queue[0]
		o.queue[0] = nil
		o.queue = o.queue[1:]
		if p.phase != phaseQueued || o.parts[p.tp] != p {
			continue // dropped while it waited
		}
		if o.cfg.PartitionsMax > 0 && len(o.parts) > o.cfg.PartitionsMax {
			o.offline(p, fmt.Errorf("this box holds its maximum of %d partitions", o.cfg.PartitionsMax))
			continue
		}
		dir, err := o.directoryOf(p)
		if err != nil {
			o.offline(p, err)
			continue
		}
		p.phase = phaseOpening
		o.opening++
		config, topicID, shards := p.config, p.topicID, o.deps.Shards
		var opened *replica.Replica
		var openErr error
		o.deps.Runtime.Spawn("open "+p.describe(), func() {
			opened, openErr = open(dir, shards, p.tp, topicID, config)
		}, func() {
			o.box.Post(message{kind: msgOpened, part: p, replica: opened, err: openErr})
		})
	}
}

// directoryOf finds the log directory of a replica: the one that the catalog names, or the emptiest for a replica that
// was never placed.
func (o *owner) directoryOf(p *part) (*seglog.Dir, error) {
	id := p.topic.Partition(p.tp.Partition).Directory(o.cfg.BrokerID)
	if !id.Reserved() {
		for _, d := range o.deps.Dirs {
			if catalog.UUID(d.ID()) == id {
				return d, d.Failed()
			}
		}
		return nil, fmt.Errorf("its log directory %s is not on this box; put it back, or remove the replica", id)
	}
	var best *seglog.Dir
	var free uint64
	for _, d := range o.deps.Dirs {
		if d.Failed() != nil {
			continue
		}
		if u, err := d.Usage(); best == nil || err == nil && u.Free > free {
			best, free = d, u.Free
		}
	}
	if best == nil {
		return nil, errors.New("no log directory of this box works")
	}
	return best, nil
}

// open opens a partition's log, or creates the log of a replica that is new here. A partition that the directory's
// checkpoint knows but that is not there was lost: it is never made empty.
func open(dir *seglog.Dir, shards *replica.Shards, tp seglog.TopicPartition, topicID catalog.UUID, config *replica.Config) (*replica.Replica, error) {
	log, err := dir.Open(tp, config.Log)
	switch {
	case errors.Is(err, seglog.ErrNotExist):
		if _, known := dir.HighWatermark(tp); known {
			return nil, fmt.Errorf("its directory in %s is missing although the checkpoint there knows it", dir.Path())
		}
		log, err = dir.Create(tp, seglog.ID(topicID), config.Log)
	case err == nil && !log.TopicID().IsZero() && log.TopicID() != seglog.ID(topicID):
		if err := errors.Join(log.Close(), dir.SetAside(tp)); err != nil {
			return nil, fmt.Errorf("set aside the directory of another topic of that name: %w", err)
		}
		log, err = dir.Create(tp, seglog.ID(topicID), config.Log)
	}
	if err != nil {
		return nil, err
	}
	hw, _ := dir.HighWatermark(tp)
	r, err := shards.Open(log, hw, config)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return r, nil
}

func (o *owner) onOpened(p *part, r *replica.Replica, err error) {
	o.opening--
	if err != nil {
		if o.stopping != nil {
			o.forget(p)
			o.finishStop()
			return
		}
		o.offline(p, err)
		return
	}
	p.phase, p.replica = phaseOpen, r
	if p.remove || o.stopping != nil {
		o.closePart(p)
		return
	}
	o.table.set(p.tp.Topic, p.tp.Partition, entry{replica: r})
	p.settings = p.topic.Settings
	if r.View().Config != p.config {
		r.SetConfig(p.config)
	}
	o.applyLeadership(p)
}

func (o *owner) offline(p *part, err error) {
	if p.remove {
		o.forget(p)
		return
	}
	p.phase, p.err = phaseOffline, fmt.Errorf("%w: %s: %w", ErrOffline, p.describe(), err)
	o.table.set(p.tp.Topic, p.tp.Partition, entry{err: p.err})
	o.deps.Observer.Log.Error("partition is offline", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
}

// closePart ends a partition here, with its files where it was deleted.
func (o *owner) closePart(p *part) {
	p.phase = phaseClosing
	o.closing++
	o.table.remove(p.tp.Topic, p.tp.Partition)
	if p.leading {
		p.leading, p.led = false, false
		o.tell(p, false)
	}
	p.replica.Close(p.remove, func(err error) {
		o.box.Post(message{kind: msgClosed, part: p, err: err})
	})
}

func (o *owner) onClosed(p *part, err error) {
	o.closing--
	if err != nil {
		o.deps.Observer.Log.Error("partition not closed cleanly", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", err)
		o.stopErr = errors.Join(o.stopErr, err)
	}
	if p.remove && o.stopping == nil {
		o.sweep()
	}
	o.forget(p)
	if o.stopping != nil {
		o.finishStop()
	}
}

// forget removes a partition; one of the same name that the catalog has meanwhile is taken up.
func (o *owner) forget(p *part) {
	if o.parts[p.tp] != p {
		return
	}
	delete(o.parts, p.tp)
	o.table.remove(p.tp.Topic, p.tp.Partition)
	if o.stopping != nil {
		return
	}
	if t := o.applied.Topic(p.tp.Topic); t != nil && !t.Deleting && t.ID != p.topicID {
		if cp := t.Partition(p.tp.Partition); cp != nil && o.holds(cp) && cp.HasState {
			o.add(p.tp, t, o.configOf(t))
		}
	}
}

// stop closes everything, and answers when the last one is closed.
func (o *owner) stop(stopped func(error)) {
	o.stopping = stopped
	for _, p := range o.queue {
		if p != nil && p.phase == phaseQueued {
			o.forget(p)
		}
	}
	o.queue = nil
	for _, p := range o.sorted() {
		switch p.phase {
		case phaseOpen:
			o.closePart(p)
		case phaseOffline:
			o.forget(p)
		}
	}
	o.finishStop()
}

func (o *owner) finishStop() {
	if o.opening == 0 && o.closing == 0 && o.stopping != nil {
		stopped := o.stopping
		o.stopping = func(error) {}
		stopped(o.stopErr)
	}
}
