package ensemble

import (
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/platform/clock"
)

// owner is what only the ensemble's goroutine touches. The tree and the attachments it changes under Ensemble.mu.
type owner struct {
	e    *Ensemble
	log  *raftlog.Log
	node *raft.RawNode
	disk *storage

	now      clock.Now
	nextTick time.Duration

	// What raft says of this box.
	role    raft.StateType
	lead    uint64
	term    uint64
	vote    uint64 // of the last hard state that was appended
	ready   bool   // leads, and has applied the first entry of its own term
	applied uint64
	conf    raftlog.ConfState
	id      uint64 // raft's, of this box

	// Who belongs to the ensemble.
	member    member
	servers   quorum.Config
	roster    quorum.Roster
	join      joining
	strangers map[uint64]stranger // servers that asked and do not belong: when they did
	changes   memberChanges
	promises  promises
	heardAt   map[uint64]time.Duration // when each server was heard last
	ended     map[uint64]bool          // those whose connection has ended, and who were not heard since

	// Proposals: gathered for the next append, and in flight by request id.
	incarnation  uint64 // tells this process's request ids from those of its predecessors in the log
	nextRequest  uint64
	gathered     []*pb.Entry
	gathering    gathering
	pending      map[origin]*proposal
	parked       []*proposal // wait for a leader, in order of arrival
	pendingBytes int64
	pendingRoom  int64 // what the proposals in flight may grow the tree by
	stampMs      int64

	// Flushing: the responses that wait for the flush under way, and for the next.
	flushing  bool
	inFlight  []*pb.Message
	unflushed []*pb.Message
	appended  int           // entries since the flush under way was asked for
	flushedAt time.Duration // when that was
	acked     acknowledged
	unsynced  bool // something was appended since the flush under way was asked for

	// Other boxes: the writes handed to the leader, what the others hand to this one, and what they are told of sessions.
	up          uplink
	moves       []*message // sessions that are moved again, at movesAt
	movesAt     time.Duration
	streams     map[uint64]*inbound
	nextTouch   time.Duration
	retell      bool            // a report of who was heard may have been lost
	said        map[uint64]said // by members, to this box as the leader of its term
	nextState   time.Duration   // when the leader is told again what this box can run
	raising     bool            // newer rules are being proposed
	leaderless  time.Duration   // since when no leader is known; 0 while one is
	lookedAt    time.Duration   // since when this box takes no writes, for want of a leader; 0 while it does
	foundAt     time.Duration   // when the present leader was known first
	readySince  time.Duration   // when this box became ready to lead
	nextLearn   time.Duration   // when the leader looks at the others again
	campaignAt  time.Duration   // when to stand for election; 0 is never
	stood       time.Duration   // when this box stood for election last
	voted       time.Duration   // when this box came to another term, or voted, last
	lastLead    uint64          // the server that led last
	leaderHeard time.Duration   // when the leader was last heard

	// The trees of the members, compared: what this box noted of its own, what a leader was told, and what is to be done
	// about this box's own, nil when it is right.
	digests keeper.Digests
	poll    keeper.Poll
	differs *difference

	nextLocal time.Duration // when local sessions are looked at again

	keep     *keeper.Keeper
	nextKeep time.Duration // when the keeper is to be asked again

	quotas    overQuota
	leaving   resignation
	reads     reads
	roles     []func(Leadership)
	toldRole  Leadership
	waiting   []*registering
	boxLife   uint64 // the incarnation that this process registers under; 0 before the first
	secretRun bool   // a secret is being proposed

	incoming *incomingSnapshot // what raft was told of in this step
	snap     snapshotState
	backup   *backingUp // on its way; nil when none is
	recent   *backingUp // the same, when it may be cut
	restore  *restoring // on its way; nil when none is
	dropped  []uint64   // restores that failed, whose parts are to be unstaged
	replaced bool       // the users' part of the tree is another since the subscribers were told last
	again    bool       // something changed that tend must look at in this step
	begun    bool       // Open has returned from making the mailbox
	doomed   error      // what was found while the lock was held
	over     bool
}

// Step is the ensemble's: take what arrived, let time pass, then do everything that raft has ready.
func (o *owner) Step(now clock.Now, batch []message) time.Duration {
	o.now = now
	if o.over {
		for i := range batch {
			o.refuse(&batch[i])
		}
		return 0
	}
	for i := range batch {
		o.take(&batch[i])
		if o.over {
			for j := i + 1; j < len(batch); j++ {
				o.refuse(&batch[j])
			}
			return 0
		}
	}
	if !o.begun {
		return 0 // the mailbox steps its owner once before Open knows the mailbox
	}
	o.tick()
	for again := true; again && !o.over; again = o.again {
		o.again = false
		o.tend()
		o.hand()
		o.drain()
	}
	o.incoming = nil // raft did not want it: this box is not so far behind any more
	o.publish()
	return o.wake()
}

// tick lets raft's time pass. A box that is alone and leads needs none: nobody waits for its heartbeats.
func (o *owner) tick() {
	if o.nextTick == 0 {
		o.nextTick = o.now.Mono + o.e.cfg.HeartbeatInterval
	}
	if o.alone() && o.role == raft.StateLeader {
		o.nextTick = 0
		return
	}
	if o.lead == raft.None && o.leaderless == 0 && !o.limbo() {
		o.look()
	}
	mute := o.mute()
	o.missLeader()
	o.askOthers()
	o.awaitLeader()
	o.answerSettled(false)
	if !mute {
		o.campaign()
		o.suspect() // and stands at the next step: what has arrived in this one may have brought another leader
	}
	o.awaitSuccessor()
	o.up.expire(o)
	o.tendMoves()
	for n := 0; o.now.Mono >= o.nextTick; n++ {
		if n < electionTicks && !mute { // a box that was stopped for an hour does not owe raft an hour of ticks
			o.node.Tick()
			o.reads.tick(o)
		}
		o.nextTick += o.e.cfg.HeartbeatInterval
	}
}

// wake is when the owner has something to do though nothing arrives.
func (o *owner) wake() time.Duration {
	if o.over {
		return 0
	}
	wake := o.nextTick
	if o.campaignAt != 0 && (wake == 0 || o.campaignAt < wake) {
		wake = o.campaignAt
	}
	if o.ready && (wake == 0 || o.nextKeep < wake) {
		wake = o.nextKeep
	}
	if len(o.gathered) > 0 {
		if at := o.gathering.until(o.now.Mono); wake == 0 || at < wake {
			wake = at
		}
	}
	if len(o.up.gathered) > 0 {
		if at := o.up.gathering.until(o.now.Mono); wake == 0 || at < wake {
			wake = at
		}
	}
	if len(o.moves) > 0 && (wake == 0 || o.movesAt < wake) {
		wake = o.movesAt
	}
	if b := o.backup; b != nil && b.cut == nil && (wake == 0 || b.failAt < wake) {
		wake = b.failAt
	}
	if r := o.restore; r != nil && r.state == restoreWaits && (wake == 0 || r.retryAt < wake) {
		wake = r.retryAt
	}
	return wake
}
