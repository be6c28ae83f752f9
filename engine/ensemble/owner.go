package ensemble

import (
	"errors"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
	"cairn/platform/syncer"
)

// messageKind says what a message asks of the owner.
type messageKind uint8

const (
	msgPropose messageKind = iota
	msgReattach
	msgReadIndex
	msgLeadership
	msgRegister
	msgReceive
	msgPeer
	msgUnreachable
	msgGone
	msgResign
	msgSnapshotSent
	msgSnapshotCame
	msgFlushed
	msgSnapshotWritten
	msgBackup
	msgBackupWritten
	msgRestore
	msgRestoreFrame
	msgDistrusted
	msgTrusted
	msgDeadlines
	msgAsk
	msgAnswer
	msgCluster
	msgTransfer
	msgPromised
	msgStart
	msgClose
)

// message is one thing that the owner is told.
type message struct {
	kind       messageKind
	write      Write
	done       func(znode.Outcome, error)
	grant      func(Grant, error)
	out        Outbox
	session    int64
	password   string
	timeoutMs  int32
	read       func(uint64, error)
	leadership func(Leadership)
	register   *registering
	resigned   func()
	deadlines  func([]time.Time, [][]int64)
	raft       *pb.Message
	peer       peerFrame
	box        uint64 // another one
	question   ask
	reply      func([]byte)
	answer     []byte
	cluster    func(Cluster, error)
	fault      func(error)
	ok         bool
	err        error
	snapshot   *writtenSnapshot
	incoming   *incomingSnapshot
	backup     *backingUp
	began      time.Duration
	restore    *restoring
	frame      []byte
	trusted    raftlog.SnapshotID
}

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
	strangers map[uint64]time.Duration // servers that asked and do not belong: when they did
	changes   memberChanges
	promises  promises
	heardAt   map[uint64]time.Duration // when each server was heard last

	// Proposals: gathered in this step, and in flight by request id.
	incarnation  uint64 // tells this process's request ids from those of its predecessors in the log
	nextRequest  uint64
	gathered     []*pb.Entry
	pending      map[origin]*proposal
	parked       []*proposal // wait for a leader, in order of arrival
	pendingBytes int64
	pendingRoom  int64 // what the proposals in flight may grow the tree by
	stampMs      int64

	// Flushing: the responses that wait for the flush under way, and for the next.
	flushing  bool
	inFlight  []*pb.Message
	unflushed []*pb.Message
	unsynced  bool // something was appended since the flush under way was asked for

	// Other boxes: the writes handed to the leader, what the others hand to this one, and what they are told of sessions.
	up          uplink
	streams     map[uint64]*inbound
	nextTouch   time.Duration
	said        map[uint64]said // by members, to this box as the leader of its term
	nextState   time.Duration   // when the leader is told again what this box can run
	raising     bool            // newer rules are being proposed
	leaderless  time.Duration   // since when no leader is known; 0 while one is
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

// take handles one message.
func (o *owner) take(m *message) {
	switch m.kind {
	case msgPropose:
		o.propose(&proposal{write: m.write, done: m.done, grant: m.grant, out: m.out})
	case msgReattach:
		o.reattach(m)
	case msgReadIndex:
		o.reads.add(o, m.read)
	case msgLeadership:
		o.roles = append(o.roles, m.leadership)
		m.leadership(o.leadership())
	case msgRegister:
		o.register(m.register)
	case msgReceive:
		if o.limbo() {
			return
		}
		o.heard(m.box)
		if err := o.promised(m.raft); err != nil {
			o.rejoin(err)
			return
		}
		if !mayStep(m.raft) && o.mute() {
			return
		}
		_ = o.node.Step(m.raft) // what raft does not want (an unknown sender, an old term) it drops
	case msgPeer:
		o.heard(m.box)
		o.takePeer(m.box, m.peer)
	case msgUnreachable:
		for _, id := range o.idsOf(m.box) {
			o.node.ReportUnreachable(id)
		}
		o.unreachable(m.box)
	case msgGone:
		o.gone(m.box)
	case msgResign:
		o.resign(m.resigned)
	case msgSnapshotCame:
		if o.limbo() {
			return
		}
		o.heard(m.box)
		if m.raft == nil {
			o.takeTree(m.incoming)
			return
		}
		o.incoming = m.incoming
		_ = o.node.Step(m.raft)
	case msgSnapshotSent:
		id := o.disk.sending[m.box]
		delete(o.disk.sending, m.box)
		if id == raft.None {
			return
		}
		status := raft.SnapshotFinish
		if !m.ok {
			status = raft.SnapshotFailure
		}
		o.node.ReportSnapshot(id, status)
	case msgFlushed:
		o.flushed(m.err)
	case msgSnapshotWritten:
		o.snapshotWritten(m.snapshot, m.err)
	case msgBackup:
		o.backUp(m.backup)
	case msgBackupWritten:
		o.backupWritten(m.backup, m.began, m.err)
	case msgRestore:
		o.restoreBegin(m.restore)
	case msgRestoreFrame:
		o.restoreFrame(m.restore, m.frame, m.err)
	case msgDistrusted:
		o.distrustNoted(m.err)
	case msgTrusted:
		o.trusted(m.trusted, m.err)
	case msgDeadlines:
		o.deadlines(m.deadlines)
	case msgAsk:
		m.reply(o.answer(m.question))
	case msgAnswer:
		o.answered(m.box, m.answer, m.err)
	case msgCluster:
		o.cluster(m.cluster)
	case msgTransfer:
		o.transfer(m.box, m.fault)
	case msgPromised:
		o.promisedBy(m.box, m.answer, m.err)
	case msgStart:
		o.begun = true
	case msgClose:
		o.end(ErrClosed)
	}
}

// refuse answers a message that arrived after the end.
func (o *owner) refuse(m *message) {
	err := o.e.refusal()
	switch m.kind {
	case msgPropose:
		m.done(znode.Outcome{}, err)
	case msgReattach:
		m.grant(Grant{}, err)
	case msgReadIndex:
		m.read(0, err)
	case msgRegister:
		m.register.done(Registered{}, err)
	case msgDeadlines:
		m.deadlines(nil, nil)
	case msgResign:
		m.resigned()
	case msgAsk:
		m.reply(nil)
	case msgBackup, msgBackupWritten:
		o.backedUp(m.backup, err)
	case msgRestore:
		m.restore.done(0, err)
	case msgCluster:
		m.cluster(Cluster{}, err)
	case msgTransfer:
		m.fault(err)
	}
}

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
		o.leaderless = max(o.now.Mono, 1)
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
	for n := 0; o.now.Mono >= o.nextTick; n++ {
		if n < electionTicks && !mute { // a box that was stopped for an hour does not owe raft an hour of ticks
			o.node.Tick()
			o.reads.tick(o)
		}
		o.nextTick += o.e.cfg.HeartbeatInterval
	}
}

// alone tells whether this box is the only voter and there is nobody else to tell.
func (o *owner) alone() bool {
	return len(o.conf.Voters) == 1 && o.conf.Voters[0] == o.id && len(o.conf.Learners)+len(o.conf.VotersOutgoing) == 0
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
	if r := o.restore; r != nil && r.state == restoreWaits && (wake == 0 || r.retryAt < wake) {
		wake = r.retryAt
	}
	return wake
}

// drain does what raft has ready until it has nothing more. Appending only queues: the flush runs elsewhere, and what
// arrives meanwhile joins the next one.
func (o *owner) drain() {
	for !o.over && o.node.HasReady() {
		rd := o.node.Ready()
		if rd.SoftState != nil {
			o.changeRole(rd.SoftState)
		}
		o.up.follow(o)
		for _, state := range rd.ReadStates {
			o.reads.confirmed(state.RequestCtx, state.Index)
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				o.append(m)
			case raft.LocalApplyThread:
				o.apply(m.GetEntries())
				o.respond(m.GetResponses())
			default:
				o.transmit(m)
			}
		}
		o.reads.answer(o)
	}
	o.flush()
}

// respond delivers the responses that were attached to a storage message.
func (o *owner) respond(responses []*pb.Message) {
	for _, m := range responses {
		if m.GetTo() == o.id {
			_ = o.node.Step(m)
		} else {
			o.transmit(m)
		}
	}
}

// append queues what raft wants to be durable.
func (o *owner) append(m *pb.Message) {
	if m.GetSnapshot() != nil {
		if err := o.install(m); err != nil {
			o.fail(err)
			return
		}
	}
	batch := raftlog.Batch{Entries: make([]raftlog.Entry, len(m.GetEntries()))}
	for i, e := range m.GetEntries() {
		batch.Entries[i] = raftlog.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Type: uint8(e.GetType()), Data: e.GetData()}
		o.snap.logBytes += int64(len(e.GetData()))
	}
	promised := len(m.GetEntries()) > 0
	if m.Term != nil {
		batch.HardState = &raftlog.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
		if m.GetTerm() != o.term || m.GetVote() != o.vote {
			promised, o.voted = true, o.now.Mono
		}
		o.term, o.vote = m.GetTerm(), m.GetVote()
	}
	if err := o.log.Append(batch); err != nil {
		o.fail(err)
		return
	}
	if err := o.disk.add(m.GetEntries()); err != nil {
		o.fail(err)
		return
	}
	o.unsynced = o.unsynced || promised
	o.owe(m.GetResponses())
}

// owe sends responses once all that was appended before them is durable. How far the log is committed need not be: the
// leader tells it again. It is written with the next flush, and costs none of its own.
func (o *owner) owe(responses []*pb.Message) {
	switch {
	case o.unsynced:
		o.unflushed = append(o.unflushed, responses...)
	case o.flushing: // what they vouch for is in the flush under way at the latest
		o.inFlight = append(o.inFlight, responses...)
	default:
		o.respond(responses)
	}
}

// flush asks the syncer for a flush, unless one is under way: then its end asks for the next.
func (o *owner) flush() {
	if o.flushing || !o.unsynced || o.over {
		return
	}
	o.flushing, o.unsynced = true, false
	o.inFlight, o.unflushed = o.unflushed, o.inFlight[:0]
	box := o.e.box
	o.e.deps.Syncer.Submit(syncer.Raft, o.log, func(err error) { box.Post(message{kind: msgFlushed, err: err}) })
}

// flushed delivers what waited for the flush.
func (o *owner) flushed(err error) {
	o.flushing = false
	if err != nil {
		o.fail(err)
		return
	}
	responses := o.inFlight
	o.respond(responses)
	clear(responses)
	o.inFlight = responses[:0]
}

// changeRole follows raft's role. Writes in flight when leadership ends may still be committed by others: their callers
// are told that nobody knows.
func (o *owner) changeRole(s *raft.SoftState) {
	led := o.role == raft.StateLeader
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
		o.leaderless, o.campaignAt, o.lastLead = 0, 0, quorum.ServerOf(s.Lead)
		if !leads {
			o.leaderHeard = o.now.Mono // that it leads, this box has from the leader itself
		}
	case o.leaderless == 0:
		o.leaderless = o.now.Mono
	}
	if led && !leads {
		o.resigned()
	}
	if leads {
		o.streams = nil // what was handed to this box before it led was refused
	}
	o.reads.again()
	o.again = true // what is parked may go on
	o.said, o.nextState, o.poll = nil, 0, keeper.Poll{}
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
	o.ready, o.again = true, true
	o.keep.Lead(o.now, o.e.tree.Sessions(), o.silence())
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

// fail ends this box's ensemble. Nothing is retried: after a failed flush nobody knows what the disk holds.
func (o *owner) fail(cause error) {
	if o.over {
		return
	}
	err := errors.Join(ErrFailed, cause)
	o.e.failure.Store(&err)
	o.e.deps.Observer.Log.Error("ensemble failed and serves no more", "error", cause)
	o.end(err)
}

// end refuses everything from now on and answers everybody who waits.
func (o *owner) end(reason error) {
	o.over = true
	o.e.serving.Store(false)
	o.endReadOnly()
	o.ready, o.role, o.lead = false, raft.StateFollower, raft.None
	o.keep.Follow()
	o.answerSettled(true)
	o.failPending(errors.Join(ErrUncertain, reason))
	o.resigned()
	o.dropParkedForwards()
	for _, p := range o.parked {
		o.abandon(p, reason)
	}
	o.parked = nil
	o.reads.fail(reason)
	if o.restore != nil {
		o.restoreEnd(o.restore, reason)
	}
	for _, r := range o.waiting {
		r.done(Registered{}, reason)
	}
	o.waiting = nil
	l := Leadership{Term: o.toldRole.Term}
	for _, f := range o.roles {
		f(l)
	}
	o.toldRole = l
	o.killAll(reason)
	o.publish()
}
