package ensemble

import (
	"encoding/json"
	"fmt"
	"time"

	"cairn/engine/ensemble/quorum"
)

// Answer answers a box that asks how it stands to the ensemble. done is called once, on the ensemble's goroutine or the
// caller's, and must not block; nil is no answer.
func (e *Ensemble) Answer(from uint64, question []byte, done func([]byte)) {
	var q ask
	if err := json.Unmarshal(question, &q); err != nil || q.Server != from || len(q.Disk) == 0 || len(q.Disk) > 64 {
		done(nil)
		return
	}
	if err := e.send(message{kind: msgAsk, box: from, occasion: &occasion{question: q, reply: done}}); err != nil {
		done(nil)
	}
}

// answer judges one who asks.
func (o *owner) answer(q ask) []byte {
	if q.Cluster {
		b, err := json.Marshal(o.survey())
		if err != nil {
			return nil
		}
		return b
	}
	a := o.stand(q)
	a.Disk = o.member.Disk
	if len(o.servers.Servers) > 0 && o.differs == nil {
		a.Servers, a.Given, a.Changed = o.servers.Lines(), o.roster.Given, o.roster.Changed
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return b
}

func (o *owner) stand(q ask) answer {
	if o.limbo() {
		return o.meet(q)
	}
	if o.differs != nil {
		return answer{Standing: standingWait} // the roster is in the tree that is wrong
	}
	if len(o.roster.Members) == 0 { // the founding is not in the tree yet
		if q.Raft == 0 && o.member.Heard[q.Server] == q.Disk {
			return answer{Standing: standingFounder}
		}
		return answer{Standing: standingWait}
	}
	if rules := o.e.tree.Rules(); q.Raft == 0 && q.Rules != 0 && q.Rules < rules {
		return answer{Standing: standingOlder, Rules: rules, Build: o.e.cfg.Build} // it would stop at the first entry, and is not waited for
	}
	m, ok := o.roster.Member(q.Server)
	switch {
	case q.Raft != 0 && ok && m.Raft == q.Raft: // it belongs, and hears of no leader
		return answer{Standing: standingWait, Raft: q.Raft, Promised: o.promises.known[q.Raft]}
	case q.Raft != 0 && !o.e.serving.Load():
		return answer{Standing: standingWait} // this roster may be an old one
	case q.Raft != 0:
		return answer{Standing: standingRemoved, Raft: q.Raft}
	case !ok || m.LeftMs != 0:
		o.waits(q)
		return answer{Standing: standingStranger}
	case m.Disk == q.Disk:
		return answer{Standing: standingMember, Raft: m.Raft, Founders: o.roster.Founders, Learners: o.roster.FoundingLearners}
	case o.ready && m.Disk == "" && !unclaimed(m) && o.now.Mono-o.readySince < foundingWait:
		return answer{Standing: standingWait} // another may have met it and told it to begin; then it claims its place
	case o.ready && unclaimed(m):
		o.replaceDisk(q) // raft counts a server that it has just been told of as alive
	case o.ready && o.lives(m.Raft):
		return answer{Standing: standingOccupied}
	case o.ready:
		o.replaceDisk(q)
	}
	return answer{Standing: standingWait}
}

// meet is the answer of one that is as empty: it writes down whom it has met before it says so.
func (o *owner) meet(q ask) answer {
	if q.Raft != 0 {
		return answer{Standing: standingWait}
	}
	if o.member.hear(q.Server, q.Disk) {
		if err := o.member.write(o.e.cfg, o.e.deps); err != nil {
			o.fail(err)
			return answer{Standing: standingWait}
		}
	}
	return answer{Standing: standingEmpty}
}

// waitsMax is how long a server that asked counts as waiting to be added.
const waitsMax = 3 * time.Second

// stranger is a server that has asked and does not belong.
type stranger struct {
	at   time.Duration
	line string // of the configuration, as it says itself; empty when it says none
}

// lineMax bounds that line: a name of the longest and a few addresses.
const lineMax = 1024

// waits notes a server that is there and does not belong yet.
func (o *owner) waits(q ask) {
	if o.strangers == nil {
		o.strangers = map[uint64]stranger{}
	}
	for server, s := range o.strangers {
		if o.now.Mono-s.at > waitsMax {
			delete(o.strangers, server)
		}
	}
	if len(o.strangers) < quorum.ServersMax && len(q.Line) <= lineMax {
		o.strangers[q.Server] = stranger{o.now.Mono, q.Line}
	}
}

// lives tells whether the leader has heard of a raft id within the last election's time.
func (o *owner) lives(id uint64) bool {
	return id == o.id || o.peersOf().Live(id)
}

// unclaimed tells whether nobody has begun under a member's raft id: it was given to a server whose disk was not known, and is told
// to one disk only.
func unclaimed(m quorum.Member) bool { return m.Disk == "" && quorum.IncarnationOf(m.Raft) > 0 }

// replaceDisk gives a server whose disk is another one a new raft id. The old id leaves; what it had acknowledged counts no
// more, and the new one votes once it has the log.
func (o *owner) replaceDisk(q ask) {
	if o.changes.running {
		return
	}
	if m, _ := o.roster.Member(q.Server); unclaimed(m) {
		if next, ok := o.roster.Claim(m.Raft, q.Disk); ok {
			o.proposeRoster(next, fmt.Sprintf("server %d is there", q.Server))
		}
		return
	}
	o.e.deps.Observer.Log.Warn("a server came with an empty disk and gets a new raft id", "server", q.Server)
	o.proposeRoster(o.roster.Replace(q.Server, q.Disk), fmt.Sprintf("server %d came with another disk", q.Server))
}
