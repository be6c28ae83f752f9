package ensemble

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"cairn/engine/ensemble/quorum"
)

// Learner is another server as the leader sees it; ZooKeeper calls all of them so.
type Learner struct {
	Server uint64
	// Votes in raft. One that is to vote and does not yet has not got the log.
	Votes bool
	// Observer is what the configuration wants it to be.
	Observer bool
	// Heard tells whether it was heard lately.
	Heard bool
	// Synced tells whether it keeps up: it is heard, the log flows to it, and it is near the end.
	Synced bool
}

// Learners are the other servers in the order of their numbers, as of some tenth of a second ago. Nil on a box that does
// not lead. The slice is shared: it must not be changed.
func (e *Ensemble) Learners() []Learner {
	if all := e.learners.Load(); all != nil {
		return *all
	}
	return nil
}

// learn looks how the others are, when it is time.
func (o *owner) learn() {
	if o.role != raft.StateLeader || o.alone() {
		o.e.learners.Store(nil)
		return
	}
	if o.now.Mono < o.nextLearn {
		return
	}
	o.nextLearn = o.now.Mono + tendInterval
	committed := o.node.BasicStatus().HardState.GetCommit()
	var all []Learner
	o.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == o.id {
			return
		}
		server := quorum.ServerOf(id)
		l := Learner{Server: server, Votes: slices.Contains(o.conf.Voters, id), Observer: o.observer(id), Heard: o.hears(server)}
		l.Synced = l.Heard && pr.State == tracker.StateReplicate && pr.Match+nearEntries >= committed
		if i := slices.IndexFunc(all, func(other Learner) bool { return other.Server == server }); i >= 0 {
			all[i] = l // the ids come in order: that of its last disk is the last
		} else {
			all = append(all, l)
		}
	})
	slices.SortFunc(all, func(a, b Learner) int { return int(int64(a.Server) - int64(b.Server)) })
	if !slices.Equal(all, o.e.Learners()) {
		o.e.learners.Store(&all)
	}
}

// observer tells whether a server is to observe: the configuration says so, or where it does not name the server, raft.
func (o *owner) observer(id uint64) bool {
	if s, ok := o.servers.Server(int64(quorum.ServerOf(id))); ok {
		return s.Observer
	}
	return slices.Contains(o.conf.Learners, id)
}
