package quorum

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"cairn/engine/ensemble/jute"
)

// Config is the servers of an ensemble, in the order of their numbers: what /zookeeper/config says.
type Config struct {
	Servers []Server
	// Version is the zxid of the change that made it; 0 for the one that an ensemble begins with, -1 for one that is in no
	// tree.
	Version int64
}

// ServersMax bounds the servers of an ensemble. ZooKeeper has the same bound through its server ids.
const ServersMax = 254

// ServerIDMax is the highest number that a server may have: raft ids hold it in their low half.
const ServerIDMax = 1<<31 - 1

// ParseConfig reads the data of /zookeeper/config, or as many lines of that form. Other lines than server.N and version
// are left out, as ZooKeeper does with weights and groups, which cairn does not have.
func ParseConfig(text string) (Config, error) {
	c := Config{Version: -1}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return c, fmt.Errorf("a line %q without a value", line)
		}
		if strings.TrimSpace(key) == "version" {
			v, err := strconv.ParseInt(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return c, fmt.Errorf("version %q is not a hexadecimal number", value)
			}
			c.Version = v
			continue
		}
		s, err := parseLine(key, value)
		if err != nil {
			return c, err
		}
		if err := c.add(s); err != nil {
			return c, err
		}
	}
	return c, nil
}

// parseLine reads what stands before and after the first '=' of a server line.
func parseLine(key, value string) (Server, error) {
	number, ok := strings.CutPrefix(strings.TrimSpace(key), "server.")
	if !ok {
		return Server{}, fmt.Errorf("%q is no server.N", key)
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 0 || id > ServerIDMax {
		return Server{}, fmt.Errorf("server.%s: the number is to be from 0 to %d", number, ServerIDMax)
	}
	s, err := ParseServer(id, strings.TrimSpace(value), true)
	if err != nil {
		return Server{}, fmt.Errorf("server.%s: %w", number, err)
	}
	return s, nil
}

func (c *Config) add(s Server) error {
	if len(c.Servers) >= ServersMax {
		return fmt.Errorf("more than %d servers", ServersMax)
	}
	for i := range c.Servers {
		o := &c.Servers[i]
		if o.ID == s.ID {
			return fmt.Errorf("server.%d twice", s.ID)
		}
		if o.Host == s.Host && (o.PeerPort == s.PeerPort || o.ElectionPort == s.ElectionPort || o.PeerPort == s.ElectionPort || o.ElectionPort == s.PeerPort) {
			return fmt.Errorf("server.%d and server.%d have a port of %s in common", o.ID, s.ID, s.Host)
		}
	}
	c.Servers = append(c.Servers, s)
	sort.Slice(c.Servers, func(i, j int) bool { return c.Servers[i].ID < c.Servers[j].ID })
	return nil
}

// Lines is the configuration without its version: what an entry carries.
func (c Config) Lines() string {
	var b strings.Builder
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "server.%d=%s\n", s.ID, s.Text())
	}
	return b.String()
}

// Server is the line of that number.
func (c Config) Server(id int64) (Server, bool) {
	for _, s := range c.Servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}

// Differs names the first server that another configuration has otherwise or not at all, or that this one lacks; "" if they
// agree on who is where and votes. What clients are told to connect to is left out.
func (c Config) Differs(o Config) string {
	for _, s := range c.Servers {
		t, ok := o.Server(s.ID)
		s.ClientAddress, t.ClientAddress = "", ""
		switch {
		case !ok:
			return fmt.Sprintf("server.%d does not belong to it", s.ID)
		case s.Text() != t.Text():
			return fmt.Sprintf("server.%d is %s there, and %s here", s.ID, t.Text(), s.Text())
		}
	}
	for _, t := range o.Servers {
		if _, ok := c.Server(t.ID); !ok {
			return fmt.Sprintf("server.%d is missing here", t.ID)
		}
	}
	return ""
}

// Participants is how many vote.
func (c Config) Participants() (n int) {
	for _, s := range c.Servers {
		if !s.Observer {
			n++
		}
	}
	return n
}

// Change is the configuration that a reconfig asks for, or the code that ZooKeeper refuses it with, and why
// (PrepRequestProcessor, case reconfig; that a leaving server's name which is no number makes it answer MarshallingError
// was seen of 3.9.5). Whether the new quorum is there is the leader's to know.
func (c Config) Change(q *jute.ReconfigRequest) (Config, jute.Code, error) {
	if q.CurConfigID != -1 && q.CurConfigID != c.Version {
		return c, jute.BadVersion, fmt.Errorf("the configuration is version %x, and %x was asked to be changed", c.Version, q.CurConfigID)
	}
	var next Config
	var err error
	if q.NewMembers != "" {
		next, err = ParseConfig(strings.ReplaceAll(q.NewMembers, ",", "\n"))
	} else {
		next, err = c.incremental(q.Joining, q.Leaving)
	}
	if err == nil && next.Participants() < 1 {
		err = fmt.Errorf("nobody would vote")
	}
	switch {
	case errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange):
		return c, jute.MarshallingError, err
	case err != nil:
		return c, jute.BadArguments, err
	}
	return next, jute.OK, nil
}

// incremental takes the leaving away and then adds the joining, each of which replaces the line of its number.
func (c Config) incremental(joining, leaving string) (Config, error) {
	next := Config{Servers: slices.Clone(c.Servers), Version: -1}
	drop := func(id int64) {
		next.Servers = slices.DeleteFunc(next.Servers, func(s Server) bool { return s.ID == id })
	}
	for _, text := range fields(leaving) {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return c, fmt.Errorf("leaving: %q is no server's number: %w", text, err)
		}
		drop(id)
	}
	for _, text := range fields(joining) {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return c, fmt.Errorf("joining: %q is not of the form server.N=host:port:port:role;port", text)
		}
		s, err := parseLine(key, value)
		if err != nil {
			return c, err
		}
		drop(s.ID)
		if err := next.add(s); err != nil {
			return c, err
		}
	}
	return next, nil
}

// Admit is the configuration with a server that asks to belong to it: as an observer, under the line that it gave itself.
func (c Config) Admit(id int64, line string) (Config, error) {
	s, err := ParseServer(id, line, true)
	if err != nil {
		return c, err
	}
	s.Observer = true
	next := Config{Servers: slices.DeleteFunc(slices.Clone(c.Servers), func(o Server) bool { return o.ID == id }), Version: -1}
	return next, next.add(s)
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' || r == '\r' })
}
