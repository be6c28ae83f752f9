package zoocfg

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

const serverForm = " does not have the form server_config or server_config;client_config" +
	" where server_config is the pipe separated list of host:port:port or host:port:port:type" +
	" and client_config is port or host:port"

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
		s, err := parseServer(id, strings.TrimSpace(p[raw]), multi)
		if err != nil {
			return err
		}
		l.c.Servers = append(l.c.Servers, s)
	}
	sort.Slice(l.c.Servers, func(i, j int) bool { return l.c.Servers[i].ID < l.c.Servers[j].ID })
	return nil
}

// parseServer reads host:peer:election[:role][|host:peer:election[:role]…][;[client address:]client port], the form of
// QuorumPeer.QuorumServer.
func parseServer(id int64, text string, multiAddress bool) (Server, error) {
	s := Server{ID: id}
	parts := strings.Split(text, ";")
	if len(parts) > 2 {
		return s, errors.New(text + serverForm)
	}
	if len(parts) == 2 {
		client, err := parseClientPart(text, parts[1])
		if err != nil {
			return s, err
		}
		s.ClientAddress = client
	}
	addresses := strings.Split(parts[0], "|")
	if len(addresses) > 1 && !multiAddress {
		return s, fmt.Errorf("Multiple address feature is disabled, but multiple addresses were specified for sid %d", id) //nolint:staticcheck // ZooKeeper's message
	}
	role := ""
	for i, a := range addresses {
		f := splitHostPorts(a)
		if len(f) < 3 || len(f) > 4 {
			return s, errors.New(text + serverForm)
		}
		peer, err1 := strconv.ParseUint(f[1], 10, 16)
		election, err2 := strconv.ParseUint(f[2], 10, 16)
		if err1 != nil {
			return s, fmt.Errorf("Address unresolved: %s:%s", f[0], f[1]) //nolint:staticcheck // ZooKeeper's message
		}
		if err2 != nil {
			return s, fmt.Errorf("Address unresolved: %s:%s", f[0], f[2]) //nolint:staticcheck // ZooKeeper's message
		}
		if peer == election {
			return s, fmt.Errorf("Client and election port must be different! Please update the configuration file on server.%d", id) //nolint:staticcheck // ZooKeeper's message
		}
		if len(f) == 4 {
			r := strings.ToLower(strings.TrimSpace(f[3]))
			if r != "observer" && r != "participant" {
				return s, fmt.Errorf("Unrecognised peertype: %s", f[3]) //nolint:staticcheck // ZooKeeper's message
			}
			if role != "" && role != r {
				return s, fmt.Errorf("Multiple addresses should have similar roles: %s vs %s", role, r) //nolint:staticcheck // ZooKeeper's message
			}
			role = r
		}
		if i == 0 {
			s.Host, s.PeerPort, s.ElectionPort = f[0], int(peer), int(election)
		} else {
			s.More = append(s.More, strings.Join(f[:3], ":"))
		}
	}
	s.Observer = role == "observer"
	return s, nil
}

func parseClientPart(line, part string) (string, error) {
	f := splitHostPorts(part)
	if len(f) > 2 {
		return "", errors.New(line + serverForm)
	}
	port, err := strconv.ParseUint(f[len(f)-1], 10, 16)
	if err != nil {
		return "", fmt.Errorf("Address unresolved: %s", part) //nolint:staticcheck // ZooKeeper's message
	}
	host := ""
	if len(f) == 2 && f[0] != "0.0.0.0" {
		host = f[0]
	}
	return hostPort(host, int(port)), nil
}

// splitHostPorts splits at colons and leaves a bracketed IPv6 address whole, without its brackets.
func splitHostPorts(s string) []string {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		if host, after, ok := strings.Cut(rest, "]"); ok {
			after, hasPort := strings.CutPrefix(after, ":")
			if !hasPort {
				return []string{host}
			}
			return append([]string{host}, strings.Split(after, ":")...)
		}
	}
	return strings.Split(s, ":")
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
