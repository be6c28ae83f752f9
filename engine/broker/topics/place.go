package topics

import (
	"errors"
	"fmt"
	"slices"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/seglog"
)

// find notes where a replica is that the catalog names no log directory of: in several, where most of it is acknowledged.
func (o *owner) find(s *catalog.Snapshot, f seglog.Found, dir *seglog.Dir) {
	if !s.Topic(f.Topic).Partition(f.Partition).Directory(o.cfg.BrokerID).Reserved() {
		return
	}
	if other := o.found[f.TopicPartition]; other != nil {
		here, _ := dir.HighWatermark(f.TopicPartition)
		if there, _ := other.HighWatermark(f.TopicPartition); here <= there {
			return
		}
	}
	o.found[f.TopicPartition] = dir
}

// directoryOf finds the log directory of a replica: the one that the catalog names; of one that it names none for, that in which it was
// found at the start, or was placed since; or the emptiest for a replica that was never placed.
func (o *owner) directoryOf(p *part) (*seglog.Dir, error) {
	if id := p.topic.Partition(p.tp.Partition).Directory(o.cfg.BrokerID); !id.Reserved() {
		p.placed = id
	} else if found := o.found[p.tp]; found != nil {
		p.placed = catalog.UUID(found.ID())
	}
	if !p.placed.Reserved() {
		if d := o.directory(p.placed); d != nil {
			return d, d.Failed()
		}
		return nil, fmt.Errorf("its log directory %s is not on this box; put it back, or remove the replica", p.placed)
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
	p.placed = catalog.UUID(best.ID())
	return best, nil
}

// directory is the log directory of that id; nil where it is not on this box.
func (o *owner) directory(id catalog.UUID) *seglog.Dir {
	i := slices.IndexFunc(o.deps.Dirs, func(d *seglog.Dir) bool { return catalog.UUID(d.ID()) == id })
	if i < 0 {
		return nil
	}
	return o.deps.Dirs[i]
}

// works reports whether the log directory of that id is on this box, and has not failed.
func (o *owner) works(id catalog.UUID) bool {
	d := o.directory(id)
	return d != nil && d.Failed() == nil
}

// leftBehind reports whether a replica that was found in a log directory has moved to another one that works, and nobody counts on it.
func (o *owner) leftBehind(p *catalog.Partition, dir *seglog.Dir) bool {
	id := p.Directory(o.cfg.BrokerID)
	return !id.Reserved() && catalog.UUID(dir.ID()) != id && !p.CountsOn(o.cfg.BrokerID) && o.works(id)
}

// misplaced reports whether the catalog names another log directory for a partition than the one that it is in, or was to be in.
func (o *owner) misplaced(p *part) bool {
	cp := p.topic.Partition(p.tp.Partition)
	if cp == nil {
		return false
	}
	id := cp.Directory(o.cfg.BrokerID)
	return !id.Reserved() && id != p.placed
}

// moveTo has a partition open in the log directory that the catalog names now. One that is open is closed first, before it hears of
// the leader epoch that came with the other directory: it must not vouch in it. What it had goes where both directories work:
// the controller counts on none of it any more. One that is being opened or closed comes to it later (onOpened, forget).
func (o *owner) moveTo(p *part) {
	switch p.phase {
	case phaseOffline:
		p.phase, p.err = phaseQueued, nil
		o.table.set(p.tp.Topic, p.tp.Partition, entry{err: ErrOpening})
		o.queue = append(o.queue, p)
	case phaseOpen:
		was, cp := p.replica.View().Log.Dir(), p.topic.Partition(p.tp.Partition)
		id := cp.Directory(o.cfg.BrokerID)
		p.remove = was.Failed() == nil && !cp.CountsOn(o.cfg.BrokerID) && o.works(id)
		o.deps.Observer.Log.Warn("partition begins anew in another log directory, which the catalog names",
			"topic", p.tp.Topic, "partition", p.tp.Partition, "directory", was.Path(), "named", id.String())
		o.closePart(p)
	}
}

// withoutDirectory reports whether the log directory that the catalog names for a partition is gone.
func (o *owner) withoutDirectory(p *part) bool {
	cp := p.topic.Partition(p.tp.Partition)
	return cp != nil && !cp.Directory(o.cfg.BrokerID).Reserved() && !o.works(cp.Directory(o.cfg.BrokerID))
}
