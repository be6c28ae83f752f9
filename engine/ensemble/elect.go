package ensemble

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/quorum"
)

// ErrForgot: the leader knows of entries that this box has acknowledged and that its log does not hold: the directory was
// lost, replaced or set back. The box must not vote as if it had never promised them.
var ErrForgot = errors.New("the log ends before what this box has acknowledged")

// Times of elections, in heartbeats.
const (
	silenceTicks = electionTicks + 1 // without a word of the leader: the others' patience with it has then ended too
	turnTicks    = 2                 // by which the second voter waits for the first; the third waits three times as long
	againTicks   = 4                 // after standing in vain
)

// promised checks a heartbeat against the log. Its commit index is at most what this box has acknowledged to the leader;
// raft itself would panic.
func (o *owner) promised(m *pb.Message) error {
	if m.GetType() != pb.MsgHeartbeat || m.GetTerm() < o.node.BasicStatus().HardState.GetTerm() {
		return nil
	}
	last, err := o.disk.LastIndex()
	if err != nil || m.GetCommit() <= last {
		return err
	}
	return fmt.Errorf("%w: it ends with entry %d, and box %d, which leads, was told of entry %d; its directory %s was lost, replaced or "+
		"set back to an older state: put the newer one back", ErrForgot, last, quorum.ServerOf(m.GetFrom()), m.GetCommit(), o.e.cfg.Dir)
}

// gone follows the end of another box's connection. On the leader that box's lease ends, and on who comes to lead before it
// is heard again; a leader that is gone is forgotten.
func (o *owner) gone(box uint64) {
	o.ended[box] = true
	delete(o.said, box) // its next process may be another build
	for _, id := range o.idsOf(box) {
		delete(o.disk.catching, id)
	}
	if o.ready {
		o.keep.Gone(o.now, box)
		o.nextKeep = o.now.Mono
	}
	o.forget(box)
}

// forget follows what says that a box does not lead any more. Who took it for the leader votes for another at once, and stands
// for election itself unless another does so first: the voters wait in the order of their numbers, so that they do not split
// the vote.
func (o *owner) forget(box uint64) {
	if box != o.leader() || box == o.e.cfg.Box {
		return
	}
	if err := o.node.ForgetLeader(); err != nil {
		return
	}
	if slices.Contains(o.conf.Voters, o.id) {
		// The first waits too: the others need a moment to see what it has seen.
		o.campaignAt = o.now.Mono + o.e.cfg.HeartbeatInterval/2 + o.turn(box)
	}
}

// deposed forgets a leader that asks for votes: it has found that it does not reach most of the others, and leads no more. To
// wait for its silence, as raft does, would leave the ensemble without a leader for another election's time. It asks for a
// term beyond its own; what it sent before it was elected, and comes late, does not.
func (o *owner) deposed(m *pb.Message) {
	t := m.GetType()
	if (t == pb.MsgPreVote || t == pb.MsgVote) && m.GetFrom() == o.lead && m.GetTerm() > o.node.BasicStatus().HardState.GetTerm() {
		o.forget(quorum.ServerOf(m.GetFrom()))
	}
}

// turn is how long this box lets others stand before it when it was box that led.
func (o *owner) turn(box uint64) time.Duration {
	rank := 0
	for _, voter := range o.conf.Voters {
		if quorum.ServerOf(voter) != box && voter < o.id {
			rank++
		}
	}
	return turnTicks * o.e.cfg.HeartbeatInterval * (1<<rank - 1)
}

// suspect decides when to stand for election because the leader is silent, or because nobody was elected. Raft would do so
// by itself, after a random time of up to twice as long, and two boxes that draw the same time may split the vote; so the
// voters take turns, and raft's own clock is left for what this one does not reach. A leader that is heard by others is not
// disturbed: they do not answer (PreVote).
func (o *owner) suspect() {
	if o.campaignAt != 0 || !slices.Contains(o.conf.Voters, o.id) {
		return
	}
	since, ticks := o.leaderHeard, silenceTicks
	switch {
	case o.role == raft.StateCandidate || o.role == raft.StateLeader:
		return // votes are on their way, and may wait for a disk
	case o.lead == raft.None:
		since, ticks = max(o.leaderless, o.stood, o.voted), againTicks
		if since == o.voted {
			ticks = electionTicks // likewise
		}
	}
	if since != 0 && o.now.Mono-since >= time.Duration(ticks)*o.e.cfg.HeartbeatInterval {
		o.campaignAt = o.now.Mono + o.turn(o.lastLead)
	}
}

// campaign stands for election when its time has come and there is still no leader. The others are asked first whether
// they would vote (PreVote): a leader that lives is not disturbed.
func (o *owner) campaign() {
	if o.campaignAt == 0 || o.now.Mono < o.campaignAt {
		return
	}
	o.campaignAt = 0
	if o.lead == raft.None || o.silence() >= silenceTicks*o.e.cfg.HeartbeatInterval {
		o.stood = o.now.Mono
		_ = o.node.Campaign() // refused when it is no voter any more
	}
}
