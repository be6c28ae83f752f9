package group

import (
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// describe handles DescribeGroups for one group. Members' metadata is shown of Stable groups only, as Kafka does.
func (s *Groups) describe(q *Describe) {
	g := s.groups[q.Group]
	if g == nil {
		s.reply(q.Ticket, s.after(nil), Refuse(q, kerr.GroupIDNotFound))
		return
	}
	a := &DescribeAnswer{State: g.state, ProtocolType: g.protocolType}
	if g.state == Stable && g.protocol != nil {
		a.Protocol = *g.protocol
	}
	for _, m := range g.members {
		d := DescribedMember{ID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost, Assignment: m.assignment}
		if g.state == Stable && g.protocol != nil {
			d.Metadata = m.metadata(*g.protocol)
		}
		a.Members = append(a.Members, d)
	}
	s.reply(q.Ticket, s.after(g), a)
}

// List adds the groups in one of the states, given as clients do in any case, to list; no states means all of them. They
// come in the order of their names.
func (s *Groups) List(list []Listed, states []string) []Listed {
	start := len(list)
	for _, g := range s.groups {
		if inStates(g.state, states) {
			list = append(list, Listed{Group: g.id, ProtocolType: g.protocolType, State: g.state})
		}
	}
	added := list[start:]
	sort.Slice(added, func(i, j int) bool { return added[i].Group < added[j].Group })
	return list
}

func inStates(state State, states []string) bool {
	for _, s := range states {
		if strings.EqualFold(strings.TrimSpace(s), state.String()) {
			return true
		}
	}
	return len(states) == 0
}
