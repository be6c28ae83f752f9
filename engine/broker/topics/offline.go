package topics

import (
	"errors"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
)

// onFailed notes that a replica has become unusable.
func (o *owner) onFailed(r *replica.Replica) {
	if p := o.parts[r.TopicPartition()]; p != nil && p.replica == r {
		o.serves(p, false)
	}
}

// serves notes whether a partition is served. One that waits to be opened once more is not.
func (o *owner) serves(p *part, is bool) {
	if p.unserved == is {
		p.unserved, o.offlineMoved = !is, true
	}
}

// sayOffline tells which partitions this box cannot serve, when that has changed: others lead them, and they are not in sync
// here. Of a log directory that is gone the cluster knows.
func (o *owner) sayOffline() {
	if !o.offlineMoved || o.stopping != nil || o.deps.Offline == nil {
		return
	}
	o.offlineMoved = false
	offline, n, more := map[catalog.UUID][]int32{}, 0, 0
	for _, p := range o.sorted() {
		switch {
		case !p.unserved || p.remove || o.withoutDirectory(p):
		case n < catalog.OfflineMax:
			offline[p.topicID] = append(offline[p.topicID], p.tp.Partition)
			n++
		default:
			more++
		}
	}
	if more > 0 {
		o.deps.Observer.Log.Error("more partitions are offline than the cluster is told of", "told", n, "not_told", more)
	}
	o.deps.Offline(offline)
}

// errLost says that a replica's log is not where it should be.
var errLost = errors.New("the log is lost")

// renew has a replica that is damaged or lost begin anew, once the catalog says that nobody counts on it: another leads, and it is
// neither in sync nor eligible. It was told offline then, and comes back into the ISR by what it copies alone.
func (o *owner) renew(p *part) {
	if p.phase != phaseOffline || p.remove || !(errors.Is(p.err, seglog.ErrCorrupt) || errors.Is(p.err, errLost)) || !o.registered() {
		return
	}
	cp := p.topic.Partition(p.tp.Partition)
	if leader := o.applied.LeaderOf(cp); leader == catalog.NoLeader || leader == o.cfg.BrokerID || o.applied.ReplicaOnline(cp, o.cfg.BrokerID) || cp.CountsOn(o.cfg.BrokerID) {
		return
	}
	o.deps.Observer.Log.Warn("a replica that is damaged or lost begins anew from its leader", "topic", p.tp.Topic, "partition", p.tp.Partition, "error", p.err)
	p.phase, p.err, p.anew = phaseQueued, nil, true
	o.queue = append(o.queue, p)
}
