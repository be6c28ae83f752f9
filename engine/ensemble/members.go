package ensemble

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/znode"
)

// What the tree says of the members, and what the leader does about it: raft's membership follows the configuration and
// the roster, step by step (quorum.Next). A leader that dies in between leaves the rest to the next one.

// Times of membership.
const (
	// leaveGrace is how long a server that left listens on, so that its clients are served while they go.
	leaveGrace = 30 * time.Second
	// changeMax is how long a change of raft's membership may be without a word before it is looked at anew.
	changeMax = 5 * time.Second
	// tendInterval is how often the leader compares.
	tendInterval = 100 * time.Millisecond
	// partBeats is for how many heartbeats a leader that is to go stays after that was decided: the others hear of the
	// decision, and answer their clients, before they hear that there is another leader.
	partBeats = 3
	// nearEntries is how far behind the leader a server may be that begins to vote.
	nearEntries = 1000
)

// memberChanges is the leader's part.
type memberChanges struct {
	running  bool          // a roster is being proposed
	changing bool          // a change of raft's membership is proposed and not applied
	since    time.Duration // when it was
	next     time.Duration
	parts    time.Duration     // when this box, which leads and is to go, hands over; 0: it is not to go
	reconfig origin            // the client's change that is under way
	refused  map[uint64]string // why servers that asked were not taken in, as it was said
	claimed  time.Duration
	settling []settling
}

// settling is a reconfig that was applied, and is answered once nobody votes who is not to vote any more.
type settling struct {
	p       *proposal
	outcome znode.Outcome
	until   time.Duration
}

// settleMax is how long a reconfig's answer waits.
const settleMax = 10 * time.Second

// readMembers takes what the tree says. It is called where the tree may say something new, by the goroutine that may
// change it.
func (o *owner) readMembers() error {
	roster, servers, known, err := membersIn(o.e.tree)
	if err != nil || !known {
		return err
	}
	o.roster, o.servers = roster, servers
	o.changes.next = 0
	o.e.tellPeers(roster.WithLeavers(servers), roster.Changed)
	return nil
}

// membersIn is what a tree says; known is false before the founding was written down.
func membersIn(t *znode.Tree) (roster quorum.Roster, servers quorum.Config, known bool, err error) {
	data, _, code := t.Get(quorum.PathRoster, znode.Box())
	if code == jute.NoNode {
		return roster, servers, false, nil
	}
	if roster, err = quorum.ParseRoster(data); err != nil {
		return roster, servers, true, err
	}
	text, _, _ := t.Get(znode.PathConfig, znode.Box())
	if servers, err = quorum.ParseConfig(string(text)); err != nil {
		err = fmt.Errorf("%s: %w", znode.PathConfig, err)
	}
	return roster, servers, true, err
}

// tellPeers tells whoever carries messages where the servers are.
func (e *Ensemble) tellPeers(c quorum.Config, changed bool) {
	if e.deps.Peers != nil {
		e.deps.Peers(c, changed)
	}
}

// standForDisk tells the leader which disk acknowledges under this box's raft id, until the roster knows. Where the roster
// names another disk, this one is a copy, and its part ends.
func (o *owner) standForDisk() {
	m, ok := o.roster.Member(o.e.cfg.Box)
	if o.e.deps.Ask == nil || o.limbo() || !ok || m.Raft != o.id || m.Disk == o.member.Disk {
		return
	}
	if m.Disk != "" {
		o.rejoin(fmt.Errorf("%w: %s is a copy of another disk's", ErrRemoved, o.e.cfg.Dir))
		return
	}
	if o.now.Mono < o.changes.claimed {
		return
	}
	o.changes.claimed = o.now.Mono + time.Second
	switch {
	case o.ready:
		o.takeClaim(o.id, o.member.Disk)
	case o.lead != raft.None:
		o.e.deps.Transport.Send(o.leader(), append(words(frameClaim, o.id), o.member.Disk...), false)
	}
}

func (o *owner) takeClaim(id uint64, disk string) {
	if next, ok := o.roster.Claim(id, disk); ok && o.ready && !o.changes.running {
		o.proposeRoster(next, fmt.Sprintf("server %d named its disk", quorum.ServerOf(id)))
	}
}

// tendMembers does the leader's next step.
func (o *owner) tendMembers() {
	m := &o.changes
	if !o.ready || len(o.e.cfg.Servers.Servers) == 0 || m.running || o.now.Mono < m.next {
		return
	}
	m.next = o.now.Mono + tendInterval
	if len(o.roster.Members) == 0 {
		o.foundRoster()
		return
	}
	if next, ok := o.roster.Forget(o.stampNow() - leaveGrace.Milliseconds()); ok {
		o.proposeRoster(next, "servers that left are let go")
		return
	}
	if m.changing && o.now.Mono-m.since < changeMax || len(o.conf.VotersOutgoing) > 0 {
		return
	}
	if o.e.cfg.Admit && o.grow() {
		return
	}
	step := quorum.Next(o.servers, o.roster, quorum.Membership{Voters: o.conf.Voters, Learners: o.conf.Learners}, o.peersOf())
	self := func(id uint64) bool { return id == o.id }
	parts := slices.ContainsFunc(step.Demote, self) || slices.ContainsFunc(step.Remove, self)
	// The leader goes last, and hands over first: what is in flight is not lost to an election.
	step.Demote, step.Remove = slices.DeleteFunc(step.Demote, self), slices.DeleteFunc(step.Remove, self)
	switch {
	case !parts:
		m.parts = 0
	case m.parts == 0:
		m.parts = o.now.Mono + partBeats*o.e.cfg.HeartbeatInterval
		m.next = min(m.next, m.parts)
	case step.Empty() && o.now.Mono >= m.parts:
		o.resign(func() {})
		m.parts, m.next = 0, o.now.Mono+resignMax
	}
	if !step.Empty() {
		o.change(step)
	}
}

// foundRoster writes down what the ensemble began with.
func (o *owner) foundRoster() {
	disks := map[uint64]string{o.e.cfg.Box: o.member.Disk}
	for server, disk := range o.member.Heard {
		disks[server] = disk
	}
	o.proposeMembers(quorum.Found(o.conf.Voters, o.conf.Learners, disks), []byte(o.e.cfg.Servers.Lines()))
}

// proposeRoster proposes another roster for the same configuration.
func (o *owner) proposeRoster(r quorum.Roster, why string) {
	o.e.deps.Observer.Log.Info("roster changes", "reason", why)
	o.proposeMembers(r, nil)
}

// proposeMembers proposes a roster, and a configuration unless that is nil.
func (o *owner) proposeMembers(r quorum.Roster, lines []byte) {
	o.changes.running = true
	entry := znode.Entry{Kind: znode.KindReconfig, Data: lines, Ops: rosterOps(r)}
	o.internal(entry, func(znode.Outcome, error) { o.changes.running = false })
}

func rosterOps(r quorum.Roster) []jute.Op {
	data := r.Marshal()
	return []jute.Op{
		{Type: znode.OpEnsure, Path: quorum.PathRoster},
		{Type: jute.OpSetData, Path: quorum.PathRoster, Data: data, Version: -1},
	}
}

// peersOf is what the leader knows of the others now.
func (o *owner) peersOf() quorum.Peers {
	type seen struct{ live, near bool }
	known := map[uint64]seen{}
	committed := o.node.BasicStatus().HardState.GetCommit()
	o.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		known[id] = seen{live: id == o.id || pr.RecentActive, near: pr.Match > 0 && pr.Match+nearEntries >= committed}
	})
	return quorum.Peers{
		Live: func(id uint64) bool { return known[id].live },
		Near: func(id uint64) bool { return known[id].near },
	}
}

// goes tells whether a voter is to vote no more.
func (o *owner) goes(id uint64) bool {
	return len(o.roster.Members) > 0 && !slices.Contains(o.roster.Voters(o.servers), id)
}

// change proposes one step of raft's membership.
func (o *owner) change(s quorum.Step) {
	var changes []*pb.ConfChangeSingle
	add := func(kind pb.ConfChangeType, ids []uint64) {
		for _, id := range ids {
			changes = append(changes, &pb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(id)})
		}
	}
	add(pb.ConfChangeAddNode, s.Promote)
	add(pb.ConfChangeAddLearnerNode, slices.Concat(s.Demote, s.Learners))
	add(pb.ConfChangeRemoveNode, s.Remove)
	o.changes.changing, o.changes.since = true, o.now.Mono
	o.e.deps.Observer.Log.Info("membership changes", "promote", s.Promote, "demote", s.Demote, "learners", s.Learners, "remove", s.Remove)
	if err := o.node.ProposeConfChange(&pb.ConfChangeV2{Changes: changes}); err != nil {
		o.changes.changing = false // raft was busy: the next look finds the same
	}
}

// judgeReconfig works a client's reconfig out, or says why not. The entry becomes what every box applies.
func (o *owner) judgeReconfig(p *proposal) {
	e := &p.write.Entry
	if e.Kind != znode.KindReconfig || e.Flags&znode.FlagInternal != 0 && len(e.Ops) > 0 {
		return // the boxes' own is worked out already
	}
	servers, code, why := o.reconfigured(e.Data)
	if code != jute.OK {
		o.e.deps.Observer.Log.Warn("reconfig refused", "code", code.String(), "reason", why)
		e.Data, e.Ops = nil, []jute.Op{{Type: jute.OpError, Version: int32(code)}}
		return
	}
	roster := o.roster.Follow(o.servers, servers, o.stampNow())
	e.Data, e.Ops = []byte(servers.Lines()), rosterOps(roster)
	o.changes.reconfig = p.from
}

func (o *owner) reconfigured(request []byte) (quorum.Config, jute.Code, error) {
	var q jute.ReconfigRequest
	r := jute.NewReader(request)
	q.Read(r)
	switch {
	case r.Err() != nil:
		return o.servers, jute.MarshallingError, r.Err()
	case len(o.e.cfg.Servers.Servers) == 0:
		return o.servers, jute.Unimplemented, fmt.Errorf("this server is alone and has no configuration of servers")
	case len(o.roster.Members) == 0 || o.changes.running || o.pending[o.changes.reconfig] != nil:
		return o.servers, jute.ReconfigInProgress, fmt.Errorf("another change is under way")
	}
	next, code, err := o.servers.Change(&q)
	if code != jute.OK {
		return next, code, err
	}
	live, peers := 0, o.peersOf()
	for _, s := range next.Servers {
		m, ok := o.roster.Member(uint64(s.ID))
		waits, there := o.strangers[uint64(s.ID)]
		if !s.Observer && (ok && peers.Live(m.Raft) || there && o.now.Mono-waits.at <= waitsMax) {
			live++
		}
	}
	if voters := next.Participants(); live < quorum.Majority(voters) {
		return next, jute.NewConfigNoQuorum, fmt.Errorf("%d of the %d servers that would vote are there", live, voters)
	}
	return next, jute.OK, nil
}

// settled tells whether raft's voters are those of the configuration, or fewer.
func (o *owner) settled() bool {
	return quorum.Settled(o.servers, o.roster, o.conf.Voters, o.conf.VotersOutgoing)
}

// answerSettled answers the reconfigs whose change is in force, or that have waited long enough.
func (o *owner) answerSettled(all bool) {
	m := &o.changes
	if len(m.settling) == 0 {
		return
	}
	all = all || o.settled()
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	m.settling = slices.DeleteFunc(m.settling, func(s settling) bool {
		if !all && o.now.Mono < s.until {
			return false
		}
		o.finish(s.p, s.outcome)
		return true
	})
}
