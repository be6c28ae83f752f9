package ensemble

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
)

// A box whose directory is empty does not know whether it is one of those who begin an ensemble, a new server of one that
// exists, or an old server whose disk was lost. It asks the others, again and again, and takes no part in raft until it
// knows:
//
//   - A server that has begun names the raft id under which this disk may begin: as a founder, when this disk was there
//     at the founding, or as a member that the leader has given an id to.
//   - When all the others are as empty as this one, or a majority of the voters is, for a while, and nobody has begun,
//     the ensemble begins: with the voters that every server's configuration names, under incarnation 0. Every server
//     that answered has written down this disk's name first, so that it is known as a founder's whatever happens next.
//
// An empty disk under an old raft id would vote as if it had never acknowledged anything: so it never gets the old one.

// ask is the question, as JSON.
type ask struct {
	Server uint64 `json:"server"`
	Disk   string `json:"disk"`
	// Raft is set when the box has begun, and asks because it has heard of no leader for long.
	Raft uint64 `json:"raft,omitempty"`
	// Rules are the newest that the box can run, 0 where it does not say.
	Rules uint32 `json:"rules,omitempty"`
	// Line is the asker's line of the configuration, where servers are taken in by themselves.
	Line string `json:"line,omitempty"`
	// Cluster asks for the ensemble as the leader sees it instead.
	Cluster bool `json:"cluster,omitempty"`
}

// standing is how the one who answers sees the one who asks.
type standing string

const (
	standingEmpty    standing = "empty"    // the one who answers has begun nothing itself
	standingFounder  standing = "founder"  // begin under incarnation 0
	standingMember   standing = "member"   // begin, or go on, under Raft
	standingWait     standing = "wait"     // it will be known soon
	standingStranger standing = "stranger" // no server of that number belongs to the ensemble
	standingOccupied standing = "occupied" // the server of that number is here, with another disk
	standingOlder    standing = "older"    // the ensemble's tree is under Rules, which the one who asks does not know
	standingRemoved  standing = "removed"  // the raft id has no place any more
)

// answer is the answer, as JSON.
type answer struct {
	Standing standing `json:"standing"`
	Disk     string   `json:"disk,omitempty"` // of the one who answers
	Raft     uint64   `json:"raft,omitempty"` // of the one who asked
	Given    uint32   `json:"given,omitempty"`
	Rules    uint32   `json:"rules,omitempty"`
	Build    string   `json:"build,omitempty"`    // of the one who answers
	Promised uint64   `json:"promised,omitempty"` // the highest index that Raft is known to have acknowledged
	// Founders and Learners are the raft ids that the log begins with.
	Founders []uint64 `json:"founders,omitempty"`
	Learners []uint64 `json:"learners,omitempty"`
	// Servers are the lines of the present configuration: whom else to ask.
	Servers string `json:"servers,omitempty"`
	Changed bool   `json:"changed,omitempty"`
}

// Times of asking.
const (
	askInterval    = 100 * time.Millisecond
	askIntervalMax = 500 * time.Millisecond
	// foundingWait is how long an empty majority waits for the servers that do not answer, before it begins without them:
	// one of them might hold an ensemble's data.
	foundingWait = 3 * time.Second
	// outsideWait is how long a box that has begun hears of no leader before it asks whether it still belongs.
	outsideWait = 5 * time.Second
)

// joining is the state of asking.
type joining struct {
	since   time.Duration
	next    time.Duration
	pause   time.Duration
	asked   map[uint64]bool // without an answer yet
	answers map[uint64]answer
	more    []uint64 // servers that answers have named
	said    standing
	older   string // why this build is too old
}

// limbo tells whether this box takes no part in raft yet.
func (o *owner) limbo() bool { return !o.member.Begun && o.e.deps.Ask != nil }

// askOthers asks when it is time. A box that has begun asks only when nobody leads for long.
func (o *owner) askOthers() {
	if o.e.deps.Ask == nil || !o.limbo() && !o.outside() {
		o.join = joining{}
		return
	}
	j := &o.join
	if j.answers == nil {
		*j = joining{since: o.now.Mono, pause: askInterval, asked: map[uint64]bool{}, answers: map[uint64]answer{}}
	}
	if o.limbo() && o.decide() || o.now.Mono < j.next {
		return
	}
	j.next, j.pause = o.now.Mono+j.pause, min(2*j.pause, askIntervalMax)
	question := o.question(false)
	for _, server := range o.others() {
		if j.asked[server] {
			continue
		}
		j.asked[server] = true
		o.e.deps.Ask(server, question, func(b []byte, err error) {
			o.e.box.Post(message{kind: msgAnswer, box: server, err: err, occasion: &occasion{answer: b}})
		})
	}
}

// question is what this box asks: how it stands, or how the ensemble does.
func (o *owner) question(cluster bool) []byte {
	q := ask{Server: o.e.cfg.Box, Disk: o.member.Disk, Raft: o.member.Raft, Rules: o.e.cfg.Rules, Cluster: cluster}
	if s, ok := o.e.cfg.Servers.Server(int64(q.Server)); ok && o.e.cfg.Admit {
		q.Line = s.Text()
	}
	b, err := json.Marshal(q)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return b
}

// outside tells whether this box has begun and is alone with it.
func (o *owner) outside() bool {
	return o.leaderless != 0 && o.now.Mono-o.leaderless >= outsideWait && len(o.e.cfg.Servers.Servers) > 1
}

// others are the servers to ask.
func (o *owner) others() []uint64 {
	var ids []uint64
	for _, s := range o.e.cfg.Servers.Servers {
		ids = append(ids, uint64(s.ID))
	}
	for _, s := range o.servers.Servers {
		ids = append(ids, uint64(s.ID))
	}
	ids = append(ids, o.join.more...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id uint64) bool { return id == o.e.cfg.Box })
}

// answered takes an answer. What does not decode is none.
func (o *owner) answered(server uint64, b []byte, err error) {
	if o.join.answers == nil {
		return
	}
	delete(o.join.asked, server)
	delete(o.join.answers, server)
	var a answer
	if err != nil || json.Unmarshal(b, &a) != nil {
		return
	}
	o.join.answers[server] = a
	if c, err := quorum.ParseConfig(a.Servers); err == nil && len(c.Servers) > 0 {
		o.join.more = o.join.more[:0]
		for _, s := range c.Servers {
			o.join.more = append(o.join.more, uint64(s.ID))
		}
		o.e.tellPeers(c, a.Changed)
	}
	switch {
	case o.limbo():
		o.say(server, a)
		o.decide()
	case a.Standing == standingRemoved && a.Given >= quorum.IncarnationOf(o.member.Raft):
		o.rejoin(fmt.Errorf("%w (server %d says so)", ErrRemoved, server))
	}
}

// say tells people what this box waits for, once for each reason.
func (o *owner) say(server uint64, a answer) {
	if o.join.said == a.Standing {
		return
	}
	log := o.e.deps.Observer.Log
	switch a.Standing {
	case standingStranger:
		if o.e.cfg.Admit {
			log.Info("this server asks to be taken into the ensemble", "server", o.e.cfg.Box, "asks", server)
			break
		}
		log.Warn("this server does not belong to the ensemble yet: add it with reconfig", "server", o.e.cfg.Box, "says", server)
	case standingOccupied:
		log.Error("another box is this server and is alive: two boxes have the same number", "server", o.e.cfg.Box, "says", server)
	case standingOlder:
		o.join.older = fmt.Sprintf("the tree's rules are version %d and this build (%s) knows up to version %d: start the build that server %d runs (%s)",
			a.Rules, o.e.cfg.Build, o.e.cfg.Rules, server, a.Build)
		log.Error("this server cannot join: "+o.join.older, "server", o.e.cfg.Box)
	default:
		return
	}
	o.join.said = a.Standing
}

// why is what a box in limbo waits for.
func (j *joining) why(o *owner) string {
	if j.said == standingStranger && o.e.cfg.Admit {
		return "it asks to be taken in, and the leader's log says why it is not"
	}
	if j.said == standingStranger {
		return "add it with reconfig, or with `cairn cluster add`"
	}
	if j.said == standingOccupied {
		return "another box has its number and is alive"
	}
	if j.said == standingOlder {
		return j.older
	}
	silent := 0
	for _, server := range o.others() {
		if _, ok := j.answers[server]; !ok {
			silent++
		}
	}
	return fmt.Sprintf("it asks the others, and %d of %d do not answer", silent, len(o.others()))
}

// decide begins if the answers allow it. It reports whether they did.
func (o *owner) decide() bool {
	for _, server := range o.others() {
		switch a := o.join.answers[server]; a.Standing {
		case standingFounder:
			return o.begin(quorum.RaftID(o.e.cfg.Box, 0), o.e.cfg.Voters, o.e.cfg.Learners)
		case standingMember:
			if a.Raft != 0 && quorum.ServerOf(a.Raft) == o.e.cfg.Box && len(a.Founders) > 0 {
				return o.begin(a.Raft, a.Founders, a.Learners)
			}
		}
	}
	return o.mayFound() && o.begin(quorum.RaftID(o.e.cfg.Box, 0), o.e.cfg.Voters, o.e.cfg.Learners)
}

// mayFound tells whether the others are as empty as this box, or as many of them as may begin without the rest.
func (o *owner) mayFound() bool {
	voters := o.e.cfg.Voters
	if !slices.Contains(voters, o.e.cfg.Box) {
		return false
	}
	empty, all := 1, true // this box is one
	for _, server := range o.configured() {
		a, answered := o.join.answers[server]
		switch {
		case !answered:
			all = false
		case a.Standing != standingEmpty:
			return false // somebody has begun
		case slices.Contains(voters, server):
			empty++
		}
	}
	return all || empty >= quorum.Majority(len(voters)) && o.now.Mono-o.join.since >= foundingWait
}

// configured are the other servers that this one's own configuration names.
func (o *owner) configured() []uint64 {
	ids := slices.Concat(o.e.cfg.Voters, o.e.cfg.Learners)
	return slices.DeleteFunc(ids, func(id uint64) bool { return id == o.e.cfg.Box })
}

// begin takes part in raft from now on, under an id and from the membership that the log begins with.
func (o *owner) begin(id uint64, voters, learners []uint64) bool {
	for server, a := range o.join.answers {
		if a.Standing == standingEmpty && a.Disk != "" {
			o.member.hear(server, a.Disk)
		}
	}
	if quorum.IncarnationOf(id) != 0 {
		o.member.Heard = nil // whom it met while it waited are no founders of the ensemble that it came to
	}
	o.member.Raft, o.member.Begun = id, true
	if err := o.member.write(o.e.cfg, o.e.deps); err != nil {
		o.fail(err)
		return true
	}
	conf := raftlog.ConfState{Voters: voters, Learners: learners}
	if err := o.log.Append(raftlog.Batch{ConfState: &conf}); err != nil {
		o.fail(err)
		return true
	}
	o.unsynced = true
	if err := o.become(id, &raftlog.Recovered{ConfState: conf}); err != nil {
		o.fail(err)
		return true
	}
	o.join, o.promises.sure = joining{}, true
	o.e.deps.Observer.Log.Info("takes part in the ensemble", "server", o.e.cfg.Box, "raft_id", id, "voters", voters)
	if len(voters) == 1 && voters[0] == id || id == slices.Min(voters) {
		_ = o.node.Campaign() // the others are in the same moment: one of them goes first
	}
	o.again = true
	return true
}

// become is raft under an id.
func (o *owner) become(id uint64, r *raftlog.Recovered) error {
	disk, err := newStorage(r)
	if err != nil {
		return err
	}
	node, err := raft.NewRawNode(o.e.raftConfig(id, disk, r.Snapshot.Index))
	if err != nil {
		return fmt.Errorf("start raft at index %d: %w", r.Snapshot.Index, err)
	}
	o.id, o.disk, o.node, o.conf = id, disk, node, r.ConfState
	o.e.raftID.Store(id)
	return nil
}

// hear notes a disk. It reports whether that is new.
func (m *member) hear(server uint64, disk string) bool {
	if m.Heard[server] == disk || disk == "" || len(m.Heard) >= quorum.ServersMax {
		return false
	}
	if m.Heard == nil {
		m.Heard = map[uint64]string{}
	}
	m.Heard[server] = disk
	return true
}
