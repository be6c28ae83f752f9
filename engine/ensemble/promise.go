package ensemble

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"cairn/engine/ensemble/quorum"
)

// A directory may have been set back: a restored image, a copy, a card that lied. Its box has acknowledged entries that its
// log does not hold, and its vote could make a leader of one that does not hold them either. So the leader tells all
// members, at a slow beat, how far each has acknowledged of what is committed; they keep it in memory. A box that starts asks
// the others what it has acknowledged before it votes or stands for election, and joins anew when that is more than it has.
//
// A power cut of all boxes at once takes this memory with it; then the log's own checks are what is left.

// promises are what this box knows of the others' acknowledgements, and whether it knows of its own.
type promises struct {
	known map[uint64]uint64 // the highest acknowledged index of each raft id
	next  time.Duration     // when the leader tells them again

	sure    bool // asked, or has heard a leader
	began   bool
	until   time.Duration
	waiting int    // servers that have not answered
	last    uint64 // of the log that the box started with
}

// promiseWait is how long a box that starts waits for the others' answers before it votes.
const promiseWait = time.Second

// promisesMax bounds what is kept: present members, and those that were.
const promisesMax = 4 * quorum.ServersMax

// mute tells whether this box may neither vote nor stand for election yet.
func (o *owner) mute() bool {
	p := &o.promises
	if p.sure || o.limbo() {
		return false
	}
	if o.e.deps.Ask == nil || o.alone() || o.lead != raft.None || p.began && (p.waiting == 0 || o.now.Mono >= p.until) {
		p.sure = true
		return false
	}
	if !p.began {
		o.askPromises()
	}
	return !p.sure
}

// askPromises asks the others what this box has acknowledged.
func (o *owner) askPromises() {
	p := &o.promises
	p.began, p.until = true, o.now.Mono+promiseWait
	p.last, _ = o.disk.LastIndex() // memory: it does not fail
	question := o.question(false)
	for _, server := range o.others() {
		p.waiting++
		o.e.deps.Ask(server, question, func(b []byte, err error) {
			o.e.box.Post(message{kind: msgPromised, box: server, err: err, occasion: &occasion{answer: b}})
		})
	}
}

// promisedBy takes an answer about this box's own acknowledgements.
func (o *owner) promisedBy(server uint64, b []byte, err error) {
	p := &o.promises
	p.waiting--
	var a answer
	last, _ := o.disk.LastIndex() // memory: it does not fail. What was acknowledged since the question is in it
	if err != nil || json.Unmarshal(b, &a) != nil || a.Promised <= max(p.last, last) || a.Raft != o.id {
		return
	}
	o.rejoin(fmt.Errorf("%w: it ended with entry %d, and server %d knows that entry %d was acknowledged; its directory %s was lost, replaced or set "+
		"back to an older state", ErrForgot, p.last, server, a.Promised, o.e.cfg.Dir))
}

// mayStep tells whether a message of raft may be taken while this box is mute.
func mayStep(m *pb.Message) bool {
	switch m.GetType() {
	case pb.MsgVote, pb.MsgPreVote, pb.MsgTimeoutNow:
		return false
	}
	return true
}

// tellPromises tells the members, on the leader, how far each has acknowledged.
func (o *owner) tellPromises() {
	p := &o.promises
	if !o.ready || o.e.deps.Ask == nil || o.alone() || o.now.Mono < p.next {
		return
	}
	p.next = o.now.Mono + o.e.cfg.stateBeat()
	b := []byte{framePromises}
	committed := o.node.BasicStatus().HardState.GetCommit()
	o.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		// What is not committed the next leader may overwrite with a shorter log: nobody has forgotten anything then.
		index := min(pr.Match, committed)
		if index > 0 && len(b) < 1+16*quorum.ServersMax {
			b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id), index)
			o.promises.note(id, index)
		}
	})
	for _, server := range o.members() {
		if server != o.e.cfg.Box {
			o.e.deps.Transport.Send(server, b, false)
		}
	}
}

func (p *promises) note(id, index uint64) {
	if p.known == nil || len(p.known) > promisesMax {
		p.known = map[uint64]uint64{}
	}
	p.known[id] = max(p.known[id], index)
}
