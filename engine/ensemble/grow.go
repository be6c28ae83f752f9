package ensemble

import (
	"fmt"

	"cairn/engine/ensemble/quorum"
)

// grow takes a server in that asks, or lets more servers vote. It reports whether a change was proposed.
func (o *owner) grow() bool {
	if o.pending[o.changes.reconfig] != nil || !o.settled() {
		return false // a client's change is under way
	}
	for server, s := range o.strangers {
		if s.line == "" || o.now.Mono-s.at > waitsMax {
			continue
		}
		next, err := o.servers.Admit(int64(server), s.line)
		if err != nil {
			o.leaveOut(server, err)
			continue
		}
		delete(o.strangers, server)
		o.proposeServers(next, fmt.Sprintf("server %d is taken in", server))
		return true
	}
	next, ok := quorum.Grown(o.servers, o.roster, quorum.Membership{Voters: o.conf.Voters, Learners: o.conf.Learners}, o.peersOf())
	if ok {
		o.proposeServers(next, fmt.Sprintf("%d servers are to vote", next.Participants()))
	}
	return ok
}

// leaveOut says once why a server is not taken in.
func (o *owner) leaveOut(server uint64, err error) {
	m := &o.changes
	if m.refused == nil || len(m.refused) > quorum.ServersMax {
		m.refused = map[uint64]string{}
	}
	if text := err.Error(); m.refused[server] != text {
		m.refused[server] = text
		o.e.deps.Observer.Log.Warn("a server asks to be taken in and is not", "server", server, "error", err)
	}
}

// proposeServers proposes another configuration, and the roster that goes with it.
func (o *owner) proposeServers(c quorum.Config, why string) {
	o.e.deps.Observer.Log.Info("configuration changes", "reason", why)
	o.proposeMembers(o.roster.Follow(o.servers, c, o.stampNow()), []byte(c.Lines()))
}
