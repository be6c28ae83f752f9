package zoocfg

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"cairn/engine/ensemble/quorum"
)

// setServers reads the server.N lines.
func (l *loader) setServers(p Properties) error {
	for _, raw := range sortedKeys(p) {
		number, ok := strings.CutPrefix(strings.TrimSpace(raw), "server.")
		if !ok {
			continue
		}
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("server.%s: For input string: %q", number, number)
		}
		multi := l.c.Properties.Bool(propertyPrefix+"multiAddress.enabled", false)
		s, err := quorum.ParseServer(id, strings.TrimSpace(p[raw]), multi)
		if err != nil {
			return err
		}
		l.c.Servers = append(l.c.Servers, s)
	}
	sort.Slice(l.c.Servers, func(i, j int) bool { return l.c.Servers[i].ID < l.c.Servers[j].ID })
	return nil
}

// checkServers applies QuorumPeerConfig's rules to the list and takes this server's client address from it.
func (l *loader) checkServers() error {
	c := l.c
	voters, observers := 0, 0
	var self *Server
	for i, s := range c.Servers {
		if s.Observer {
			observers++
		} else {
			voters++
		}
		if s.ID == c.ServerID {
			self = &c.Servers[i]
		}
	}
	switch {
	case voters == 0 && !c.StandaloneEnabled:
		return errors.New("standaloneEnabled = false then number of participants should be >0")
	case voters == 0 && observers > 0:
		return errors.New("Observers w/o participants is an invalid configuration") //nolint:staticcheck // ZooKeeper's message
	case voters == 1 && c.StandaloneEnabled && observers > 0:
		return errors.New("Observers w/o quorum is an invalid configuration") //nolint:staticcheck // ZooKeeper's message
	}
	if err := l.takeClientAddress(self); err != nil {
		return err
	}
	if observer := self != nil && self.Observer; observer != c.Observer {
		l.warn("Peer type from servers list (%s) doesn't match peerType (%s). Defaulting to servers list.", role(observer), role(c.Observer))
		c.Observer = observer
	}
	if c.Standalone() {
		return nil
	}
	switch {
	case c.InitLimit == 0:
		return errors.New("initLimit is not set")
	case c.SyncLimit == 0:
		return errors.New("syncLimit is not set")
	case c.ServerID == serverIDUnset:
		return errors.New("myid file is missing")
	case self == nil:
		return fmt.Errorf("My id %d not in the peer list", c.ServerID) //nolint:staticcheck // ZooKeeper's message
	}
	return nil
}

// takeClientAddress lets the client part of this server's own line decide; a clientPort that says otherwise is an error.
func (l *loader) takeClientAddress(self *Server) error {
	if self == nil || self.ClientAddress == "" {
		return nil
	}
	static, inList := l.c.ClientAddress, self.ClientAddress
	if static != "" {
		anyHost := strings.HasPrefix(static, ":") || strings.HasPrefix(static, "0.0.0.0:") || strings.HasPrefix(static, "[::]:")
		samePort := portOf(static) == portOf(inList)
		if (anyHost && !samePort) || (!anyHost && static != inList) {
			return fmt.Errorf("client address for this server (id = %d) in static config file is %s is different from client address found in dynamic file: %s",
				l.c.ServerID, static, inList)
		}
	}
	l.c.ClientAddress = inList
	return nil
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func role(observer bool) string {
	if observer {
		return "OBSERVER"
	}
	return "PARTICIPANT"
}
