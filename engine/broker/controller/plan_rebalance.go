package controller

import (
	"cmp"
	"slices"
	"time"

	"cairn/engine/broker/catalog"
)

// RebalanceControl pauses what the cluster does by itself about replicas and leaders, or lets it go on. Moves that are under way go on
// to their end: what they have copied would be copied again. Kafka's tools cancel them.
type RebalanceControl struct {
	Pause bool
}

// ControlRebalance pauses or resumes.
func (c *Controller) ControlRebalance(req RebalanceControl, done func(error)) {
	c.submit(&rebalanceControl{req: req, done: done}, requestTimeout)
}

// rebalanceControl plans RebalanceControl.
type rebalanceControl struct {
	req  RebalanceControl
	done func(error)
}

func (r *rebalanceControl) step(w *work, _ *facts) outcome {
	if w.full() {
		return again
	}
	if is := w.now.Rebalance; is.Paused != r.req.Pause {
		w.do(put(is.Exists, catalog.RebalancePath, catalog.EncodeRebalance(r.req.Pause)))
	}
	return ready
}

func (r *rebalanceControl) answer() { r.done(nil) }

func (r *rebalanceControl) fail(err *Error) { r.done(err) }

// rebalanceShown bounds each list of RebalanceStatus: it goes to other boxes as the answer to one question.
const rebalanceShown = 40

// RebalanceStatus is what the cluster does by itself, and what it would do.
type RebalanceStatus struct {
	Paused bool `json:"paused"`
	// Moving is how many partitions move, of MovesMax that may; Moves are the first of them.
	Moving   int             `json:"moving"`
	MovesMax int             `json:"moves_max"`
	Moves    []PartitionMove `json:"moves"`
	// Waiting is how many partitions are not as they should be and do not move; Wanted are the first of them.
	Waiting int               `json:"waiting"`
	Wanted  []PartitionWanted `json:"wanted"`
	// Absent are the boxes, and the log directories, that replicas of topics with replication.factor=auto are missed on.
	Absent []Absence `json:"absent"`
}

// PartitionMove is a reassignment under way, whoever has asked for it.
type PartitionMove struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"`
	Adding    []int32 `json:"adding"`
	Removing  []int32 `json:"removing"`
	InSync    []int32 `json:"in_sync"`
}

// PartitionWanted is a partition that should have other replicas.
type PartitionWanted struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"`
	InSync    []int32 `json:"in_sync"`
	Want      int     `json:"want"` // replicas
	Lost      []int32 `json:"lost"` // brokers whose replica is to be made elsewhere
	Why       string  `json:"why"`  // that it does not move now
}

// Absence is a broker that is not registered, or a log directory that its broker does not have.
type Absence struct {
	Broker    int32  `json:"broker"`
	Directory string `json:"directory,omitempty"`
	// AwaySeconds is for how long this controller misses it, LeftSeconds how long it waits yet before it replaces it.
	AwaySeconds int64 `json:"away_seconds"`
	LeftSeconds int64 `json:"left_seconds"`
}

// RebalanceStatus says what the cluster does by itself about replicas.
func (c *Controller) RebalanceStatus(done func(RebalanceStatus, error)) {
	c.submit(&rebalanceStatus{done: done}, requestTimeout)
}

// rebalanceStatus finds RebalanceStatus. It changes nothing.
type rebalanceStatus struct {
	done   func(RebalanceStatus, error)
	status RebalanceStatus
}

func (r *rebalanceStatus) step(w *work, f *facts) outcome {
	s := w.now
	v := look(s, f, f.absent)
	r.status = RebalanceStatus{
		Paused: s.Rebalance.Paused, Moving: len(v.moving), MovesMax: movesMax,
		Moves: []PartitionMove{}, Wanted: []PartitionWanted{}, Absent: []Absence{},
	}
	for _, tp := range v.moving[:min(len(v.moving), rebalanceShown)] {
		p := s.Topic(tp.Topic).Partitions[tp.Partition]
		r.status.Moves = append(r.status.Moves, PartitionMove{tp.Topic, tp.Partition, p.Replicas, p.Adding, p.Removing, p.ISR})
	}
	v.heal(w.trial(), f, !s.Rebalance.Paused)
	r.status.Waiting = len(v.wishes)
	for _, one := range v.wishes[:min(len(v.wishes), rebalanceShown)] {
		p := one.topic.Partitions[one.partition]
		if one.why == "" {
			one.why = "it begins in a moment"
		}
		r.status.Wanted = append(r.status.Wanted, PartitionWanted{one.topic.Name, one.partition, p.Replicas, p.ISR, one.want, one.lost, one.why})
	}
	limit := awayMax(s)
	for at, since := range v.absent {
		a := Absence{Broker: at.broker, AwaySeconds: int64((f.now - since) / time.Second), LeftSeconds: int64(max(since+limit-f.now, 0) / time.Second)}
		if !at.directory.IsZero() {
			a.Directory = at.directory.String()
		}
		r.status.Absent = append(r.status.Absent, a)
	}
	slices.SortFunc(r.status.Absent, func(a, b Absence) int {
		return cmp.Or(cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Directory, b.Directory))
	})
	r.status.Absent = r.status.Absent[:min(len(r.status.Absent), rebalanceShown)]
	return ready
}

func (r *rebalanceStatus) answer() { r.done(r.status, nil) }

func (r *rebalanceStatus) fail(err *Error) { r.done(RebalanceStatus{}, err) }
