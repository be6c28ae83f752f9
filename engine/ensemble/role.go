package ensemble

import (
	"slices"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/quorum"
)

// leader is the server that leads, 0 when none is known.
func (o *owner) leader() uint64 { return quorum.ServerOf(o.lead) }

// idsOf are the raft ids by which raft knows a server.
func (o *owner) idsOf(server uint64) (ids []uint64) {
	for _, id := range slices.Concat(o.conf.Voters, o.conf.VotersOutgoing, o.conf.Learners) {
		if quorum.ServerOf(id) == server && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// alone tells whether this box is the only voter and there is nobody else to tell.
func (o *owner) alone() bool {
	return len(o.conf.Voters) == 1 && o.conf.Voters[0] == o.id && len(o.conf.Learners)+len(o.conf.VotersOutgoing) == 0
}

// changeRole follows raft's role. Writes in flight when leadership ends may still be committed by others: their callers
// are told that nobody knows.
func (o *owner) changeRole(s *raft.SoftState) {
	led, before := o.role == raft.StateLeader, o.lead
	o.role, o.lead = s.RaftState, s.Lead
	leads := o.role == raft.StateLeader
	o.e.deps.Observer.Log.Info("raft role", "role", s.RaftState.String(), "leader", quorum.ServerOf(s.Lead))
	if led && !leads {
		o.ready = false
		o.dropParkedForwards()
		o.keep.Follow()
		o.changes.changing, o.changes.running = false, false
		o.failPending(ErrUncertain)
	}
	switch {
	case s.Lead != raft.None:
		o.campaignAt, o.lastLead = 0, quorum.ServerOf(s.Lead)
		if s.Lead != before {
			o.found()
		}
		if !leads {
			o.leaderHeard = o.now.Mono // that it leads, this box has from the leader itself
		}
	case o.leaderless == 0:
		o.look()
	}
	if led && !leads {
		o.resigned()
		if s.Lead == raft.None {
			o.campaignAt = o.now.Mono // asking for votes tells those who hear it that this box does not lead
		}
	}
	if leads {
		o.streams = nil // what was handed to this box before it led was refused
	}
	o.reads.again()
	o.again = true // what is parked may go on
	o.said, o.nextState, o.poll, o.nextLearn = nil, 0, keeper.Poll{}, 0
	o.tellRole()
}

// missLeader forgets a leader that is silent, on a box that does not vote: raft lets only voters run out of patience. One that
// was cut off, or removed, would serve what it has for ever.
func (o *owner) missLeader() {
	if o.lead == raft.None || o.lead == o.id || slices.Contains(o.conf.Voters, o.id) ||
		o.silence() < 2*electionTicks*o.e.cfg.HeartbeatInterval {
		return
	}
	_ = o.node.ForgetLeader() // followers only, which this is
}

// awaitLeader closes the doors of a box that has known no leader for so long that the others may have gone on without it.
// An election is shorter: its clients stay.
func (o *owner) awaitLeader() {
	if o.leaderless != 0 && o.now.Mono-o.leaderless >= o.e.cfg.LeaderlessMax {
		if o.e.serving.Load() {
			o.e.deps.Observer.Log.Error("clients are sent away", "reason", o.trouble())
		}
		if !o.e.readOnly.Load() {
			o.stopServing(ErrNoQuorum)
			o.beReadOnly()
		}
		o.unpark()
	}
}

func (o *owner) leadership() Leadership {
	return Leadership{Leader: o.ready, Term: o.node.BasicStatus().HardState.GetTerm(), Box: o.leader()}
}

func (o *owner) tellRole() {
	l := o.leadership()
	if l == o.toldRole {
		return
	}
	o.toldRole = l
	for _, f := range o.roles {
		f(l)
	}
}

// becomeReady is called when the first entry of this box's own term was applied: it knows all that was committed before.
// Every session's timer starts anew, in full (ZooKeeper's LeaderSessionTracker does the same).
func (o *owner) becomeReady() {
	o.ready, o.again, o.readySince = true, true, max(o.now.Mono, 1)
	o.available()
	o.keep.Lead(o.now, o.e.tree.Sessions(), o.silence())
	for box := range o.ended {
		o.keep.Gone(o.now, box)
	}
	o.nextKeep = o.now.Mono
	o.tellRole()
}

// serve opens the doors once the tree is known to be recent and has a secret to make passwords from.
func (o *owner) serve() {
	if o.e.serving.Load() || !o.reads.fresh || !o.e.tree.HasSecret() || o.differs != nil {
		return
	}
	o.leaveReadOnly()
	o.e.serving.Store(true)
	o.synced()
	o.e.deps.Observer.Log.Info("ensemble serves", "applied", o.applied, "zxid", o.e.tree.Zxid(), "leader", o.ready)
	o.registerWaiting()
}

// stopServing closes the doors and every connection, so that clients look for another box.
func (o *owner) stopServing(reason error) {
	o.reads.fresh = false
	readOnly := o.endReadOnly()
	if o.e.serving.Swap(false) || readOnly {
		o.killAll(reason)
	}
}
