package quorum

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Server is one server.N line.
type Server struct {
	ID int64
	// Host is the name in the line; the addresses after '|' are in More.
	Host         string
	PeerPort     int
	ElectionPort int
	// More are further "host:peer:election" parts; they need multiAddress.enabled.
	More []string
	// Observer is the role "observer"; otherwise the server votes.
	Observer bool
	// ClientAddress is the part after ';' as host:port, or empty.
	ClientAddress string
}

// Role is the server's role as the text names it.
func (s Server) Role() string {
	if s.Observer {
		return "observer"
	}
	return "participant"
}

// PeerAddress is where the other servers reach it.
func (s Server) PeerAddress() string { return hostPort(s.Host, s.PeerPort) }

// ElectionAddress is the other one of the line. Nobody listens there: raft elects over the same connections.
func (s Server) ElectionAddress() string { return hostPort(s.Host, s.ElectionPort) }

// ShownClientAddress is where clients reach it, with 0.0.0.0 for every address; empty when the line does not say.
func (s Server) ShownClientAddress() string {
	host, port, err := net.SplitHostPort(s.ClientAddress)
	switch {
	case err != nil:
		return ""
	case host == "":
		host = "0.0.0.0"
	}
	return bracketed(host) + ":" + port
}

// Text is the line's value as ZooKeeper writes it (QuorumPeer.QuorumServer.toString).
func (s Server) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d", bracketed(s.Host), s.PeerPort, s.ElectionPort)
	for _, more := range s.More {
		b.WriteString("|" + more)
	}
	b.WriteString(":" + s.Role())
	if client := s.ShownClientAddress(); client != "" {
		b.WriteString(";" + client)
	}
	return b.String()
}

const serverForm = " does not have the form server_config or server_config;client_config" +
	" where server_config is the pipe separated list of host:port:port or host:port:port:type" +
	" and client_config is port or host:port"

// ParseServer reads host:peer:election[:role][|host:peer:election[:role]…][;[client address:]client port], the form of
// QuorumPeer.QuorumServer, whose messages the errors have.
func ParseServer(id int64, text string, multiAddress bool) (Server, error) {
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
		if err := s.parseAddress(i, a, text, &role); err != nil {
			return s, err
		}
	}
	s.Observer = role == "observer"
	return s, nil
}

func (s *Server) parseAddress(i int, a, text string, role *string) error {
	f := splitHostPorts(a)
	if len(f) < 3 || len(f) > 4 {
		return errors.New(text + serverForm)
	}
	peer, err1 := strconv.ParseUint(f[1], 10, 16)
	election, err2 := strconv.ParseUint(f[2], 10, 16)
	if err1 != nil {
		return fmt.Errorf("Address unresolved: %s:%s", f[0], f[1]) //nolint:staticcheck // ZooKeeper's message
	}
	if err2 != nil {
		return fmt.Errorf("Address unresolved: %s:%s", f[0], f[2]) //nolint:staticcheck // ZooKeeper's message
	}
	if peer == election {
		return fmt.Errorf("Client and election port must be different! Please update the configuration file on server.%d", s.ID) //nolint:staticcheck // ZooKeeper's message
	}
	if len(f) == 4 {
		r := strings.ToLower(strings.TrimSpace(f[3]))
		if r != "observer" && r != "participant" {
			return fmt.Errorf("Unrecognised peertype: %s", f[3]) //nolint:staticcheck // ZooKeeper's message
		}
		if *role != "" && *role != r {
			return fmt.Errorf("Multiple addresses should have similar roles: %s vs %s", *role, r) //nolint:staticcheck // ZooKeeper's message
		}
		*role = r
	}
	if i == 0 {
		s.Host, s.PeerPort, s.ElectionPort = f[0], int(peer), int(election)
	} else {
		s.More = append(s.More, strings.Join(f[:3], ":"))
	}
	return nil
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

func hostPort(host string, port int) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

func bracketed(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}
