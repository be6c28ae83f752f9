package ensemble

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/znode"
)

// Cluster is the ensemble as people want to see it. The leader knows all of it; a server without one says what it sees.
type Cluster struct {
	// Server that says so, and Leader, 0 when none is known.
	Server  uint64 `json:"server"`
	Leader  uint64 `json:"leader"`
	Serving bool   `json:"serving"`
	Term    uint64 `json:"term"`
	Zxid    int64  `json:"zxid"`
	Rules   uint32 `json:"rules"`
	// Version is that of the configuration, the zxid of its last change.
	Version int64           `json:"version"`
	Members []ClusterMember `json:"members"`
	// Trouble says plainly what is wrong, and is empty when nothing is.
	Trouble string `json:"trouble,omitempty"`
}

// ClusterMember is one server.
type ClusterMember struct {
	Server uint64 `json:"server"`
	// Role is what it is to be: participant or observer.
	Role string `json:"role"`
	// State is what it is: leader, follower (it votes), observer (it listens), joining (it is to vote and has not got the log
	// yet), leaving (it was removed and is served on for a moment), or waiting (nobody has come under its number yet).
	State  string `json:"state"`
	Alive  bool   `json:"alive"`
	RaftID uint64 `json:"raft_id"`
	// Behind is how many entries it lacks, -1 where nobody knows.
	Behind int64  `json:"behind"`
	Peer   string `json:"peer"`
	Client string `json:"client,omitempty"`
	// Build is the cairn that runs there, and Rules the newest that it can run; empty and 0 where it has not said so to the
	// leader lately.
	Build string `json:"build,omitempty"`
	Rules uint32 `json:"rules,omitempty"`
	// Line is the server's line of the configuration, without its number.
	Line string `json:"line"`
}

// ErrAlone: this server is no member of an ensemble of several.
var ErrAlone = errors.New("this server is alone and has no other members")

// Cluster calls done with the ensemble as the leader sees it, or as this server does while it knows of none. done runs on
// another goroutine or the caller's, and must not block.
func (e *Ensemble) Cluster(done func(Cluster, error)) {
	if err := e.send(message{kind: msgCluster, occasion: &occasion{cluster: done}}); err != nil {
		done(Cluster{}, err)
	}
}

func (o *owner) cluster(done func(Cluster, error)) {
	switch {
	case len(o.e.cfg.Servers.Servers) == 0:
		done(Cluster{}, ErrAlone)
		return
	case o.role == raft.StateLeader || o.lead == raft.None || o.e.deps.Ask == nil:
		done(o.survey(), nil)
		return
	}
	own := o.survey()
	o.e.deps.Ask(o.leader(), o.question(true), func(b []byte, err error) {
		var c Cluster
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			own.Trouble = fmt.Sprintf("the leader, server %d, does not answer: %v", own.Leader, err)
			c = own
		}
		done(c, nil)
	})
}

// survey is what this server sees.
func (o *owner) survey() Cluster {
	c := Cluster{
		Server: o.e.cfg.Box, Leader: o.leader(), Serving: o.e.serving.Load(), Term: o.node.BasicStatus().HardState.GetTerm(),
		Zxid: o.e.tree.Zxid(), Rules: o.e.tree.Rules(), Version: o.servers.Version,
	}
	servers := o.roster.WithLeavers(o.servers)
	if len(servers.Servers) == 0 {
		servers = o.e.cfg.Servers
	}
	progress := map[uint64]tracker.Progress{}
	o.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) { progress[id] = pr })
	last, _ := o.disk.LastIndex() // memory: it does not fail
	for _, s := range servers.Servers {
		c.Members = append(c.Members, o.clusterMember(s, progress, last))
	}
	slices.SortFunc(c.Members, func(a, b ClusterMember) int { return int(int64(a.Server) - int64(b.Server)) })
	c.Trouble = o.trouble()
	return c
}

func (o *owner) clusterMember(s quorum.Server, progress map[uint64]tracker.Progress, last uint64) ClusterMember {
	place, _ := o.roster.Member(uint64(s.ID))
	m := ClusterMember{Server: uint64(s.ID), Role: s.Role(), RaftID: place.Raft, Behind: -1, Peer: s.PeerAddress(), Client: s.ClientAddress, Line: s.Text()}
	switch {
	case place.LeftMs != 0:
		m.State = "leaving"
	case place.Raft != 0 && place.Raft == o.lead:
		m.State = "leader"
	case slices.Contains(o.conf.Voters, place.Raft):
		m.State = "follower"
	case place.Disk == "":
		m.State = "waiting"
	case s.Observer:
		m.State = "observer"
	default:
		m.State = "joining"
	}
	said := o.said[m.Server]
	m.Build, m.Rules = said.build, said.rules
	pr, known := progress[place.Raft]
	switch {
	case m.Server == o.e.cfg.Box:
		m.Alive, m.Build, m.Rules = true, o.e.cfg.Build, o.e.cfg.Rules
		if o.role == raft.StateLeader {
			m.Behind = 0
		}
	case known && o.role == raft.StateLeader:
		m.Alive = pr.RecentActive
		m.Behind = max(int64(last)-int64(pr.Match), 0)
	default:
		m.Alive = o.hears(m.Server)
	}
	return m
}

// hearMax is how long ago a server may have been heard that counts as alive.
const hearMax = 2 * time.Second

func (o *owner) hears(server uint64) bool {
	at, ok := o.heardAt[server]
	return ok && o.now.Mono-at < hearMax
}

// trouble says why nothing can be written, if that is so.
func (o *owner) trouble() string {
	switch {
	case o.limbo():
		return "this server does not belong to an ensemble yet: " + o.join.why(o)
	case o.lead != raft.None:
		return ""
	}
	var away []string
	voters := o.conf.Voters
	for _, id := range voters {
		server := quorum.ServerOf(id)
		if id == o.id || o.hears(server) {
			continue
		}
		where := ""
		if s, ok := o.servers.Server(int64(server)); ok {
			where = " at " + s.PeerAddress()
		}
		away = append(away, fmt.Sprintf("server %d%s", server, where))
	}
	if len(voters)-len(away) >= quorum.Majority(len(voters)) {
		return "an election is under way"
	}
	return fmt.Sprintf("no quorum: %d of the %d voters are heard and %d are needed; not heard: %v; bring one of them back, or see `cairn cluster recover --help`",
		len(voters)-len(away), len(voters), quorum.Majority(len(voters)), away)
}

// Reconfigure changes the configuration as a client's reconfig does, with the box's own authority. done is called as
// Propose's is.
func (e *Ensemble) Reconfigure(q jute.ReconfigRequest, done func(znode.Outcome, error)) {
	w := Write{Entry: znode.Entry{Kind: znode.KindReconfig, Flags: znode.FlagInternal, Data: q.Append(nil)}}
	e.Propose(w, done)
}

// Transfer asks the leader to hand its leadership to another server. Nothing says whether it came to that but the
// leadership itself.
func (e *Ensemble) Transfer(server uint64, done func(error)) {
	if err := e.send(message{kind: msgTransfer, box: server, occasion: &occasion{fault: done}}); err != nil {
		done(err)
	}
}

func (o *owner) transfer(server uint64, done func(error)) {
	switch {
	case o.lead == raft.None:
		done(ErrNoQuorum)
	case o.role != raft.StateLeader:
		o.e.deps.Transport.Send(o.leader(), words(frameTransfer, server), false)
		done(nil)
	default:
		done(o.handTo(server))
	}
}

// handTo makes a voter of this leader's lead.
func (o *owner) handTo(server uint64) error {
	if server == o.e.cfg.Box {
		return nil
	}
	for _, id := range o.conf.Voters {
		if quorum.ServerOf(id) != server {
			continue
		}
		if !o.lives(id) {
			return fmt.Errorf("server %d is not heard", server)
		}
		o.handOver(id, func() {})
		return nil
	}
	return fmt.Errorf("server %d does not vote", server)
}

// Line is the line of a server of the cluster, as reconfig wants to have it, with another role unless that is empty.
func (c Cluster) Line(number, role string) (string, error) {
	for _, m := range c.Members {
		if fmt.Sprint(m.Server) != number {
			continue
		}
		s, err := quorum.ParseServer(int64(m.Server), m.Line, true)
		if err != nil {
			return "", err
		}
		if role != "" {
			s.Observer = role == "observer"
		}
		return fmt.Sprintf("server.%d=%s", s.ID, s.Text()), nil
	}
	return "", fmt.Errorf("there is no server %s", number)
}
