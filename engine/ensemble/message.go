package ensemble

import (
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
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

// message is one thing that the owner is told. It is small, for many are copied; what comes seldom lies behind it.
type message struct {
	kind     messageKind
	ok       bool
	box      uint64 // another one
	proposal *proposal
	raft     *pb.Message
	peer     *peerFrame
	read     func(uint64, error)
	err      error
	*occasion
}

// occasion is what the messages carry that come seldom.
type occasion struct {
	grant      func(Grant, error)
	out        Outbox
	session    int64
	password   string
	timeoutMs  int32
	leadership func(Leadership)
	register   *registering
	resigned   func()
	deadlines  func([]time.Time, [][]int64)
	question   ask
	reply      func([]byte)
	answer     []byte
	cluster    func(Cluster, error)
	fault      func(error)
	snapshot   *writtenSnapshot
	incoming   *incomingSnapshot
	backup     *backingUp
	began      time.Duration
	restore    *restoring
	frame      []byte
	trusted    raftlog.SnapshotID
}

// take handles one message.
func (o *owner) take(m *message) {
	switch m.kind {
	case msgPropose:
		o.propose(m.proposal)
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
		o.deposed(m.raft)
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
			delete(o.disk.catching, id)
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
		m.proposal.done(znode.Outcome{}, err)
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
