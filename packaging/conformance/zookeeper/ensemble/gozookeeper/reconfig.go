package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const configPath = "/zookeeper/config"

var (
	serverLine  = regexp.MustCompile(`(?m)^server\.(\d+)=.*?:(participant|observer)`)
	versionLine = regexp.MustCompile(`(?m)^version=([0-9a-f]+)$`)
)

// describe is a configuration in short, as "1p 2p 3p 4o", and its version.
func describe(data []byte) (string, int64) {
	var servers []string
	for _, m := range serverLine.FindAllSubmatch(data, -1) {
		servers = append(servers, string(m[1])+string(m[2][0]))
	}
	var version int64
	if m := versionLine.FindSubmatch(data); m != nil {
		version, _ = strconv.ParseInt(string(m[1]), 16, 64)
	}
	return strings.Join(servers, " "), version
}

func (s *servers) admin(numbers ...int) (*client, error) {
	c, err := s.open(numbers...)
	if err != nil {
		return nil, err
	}
	return c, c.AddAuth("digest", []byte("super:test"))
}

// load writes through all servers until it is told to end.
type load struct {
	path  string
	stop  atomic.Bool
	all   sync.WaitGroup
	mu    sync.Mutex
	acked []string
	err   error
}

func (s *servers) startLoad(path string) (*load, error) {
	l := &load{path: path}
	for n := range s.address {
		c, err := s.open(n, 1, 2, 3)
		if err != nil {
			return nil, err
		}
		if err := c.make(path, "", 0); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return nil, err
		}
		l.all.Go(func() { l.write(c, n) })
	}
	return l, nil
}

func (l *load) write(c *client, n int) {
	for i := 0; !l.stop.Load(); i++ {
		path := fmt.Sprintf("%s/%d-%d", l.path, n, i)
		err := c.make(path, "", 0)
		l.mu.Lock()
		if err == nil {
			l.acked = append(l.acked, path)
		} else if !lost(err) {
			l.err = fmt.Errorf("%s: %w", path, err)
			l.stop.Store(true)
		}
		l.mu.Unlock()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (l *load) end(c *client) error {
	l.stop.Store(true)
	l.all.Wait()
	if l.err != nil {
		return l.err
	}
	if _, err := c.Sync(l.path); err != nil {
		return err
	}
	names, _, err := c.Children(l.path)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[l.path+"/"+name] = true
	}
	for _, path := range l.acked {
		if !there[path] {
			return fmt.Errorf("%s was acknowledged and is lost", path)
		}
	}
	return ensure(len(l.acked) > 100, "only %d writes came to pass", len(l.acked))
}

// expect makes one change; the configuration must show it, and its watch fire.
func expect(c *client, servers string, joining, leaving []string) error {
	data, _, fired, err := c.GetW(configPath)
	if err != nil {
		return err
	}
	_, before := describe(data)
	deadline := time.Now().Add(wait)
	for {
		_, err = c.IncrementalReconfig(joining, leaving, -1)
		// A server that was added a moment ago, or another change that is under way.
		busy := err != nil && (strings.Contains(err.Error(), "-13") || strings.Contains(err.Error(), "-14"))
		if !busy && !lost(err) || time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("reconfig %v %v: %w", joining, leaving, err)
	}
	select {
	case e := <-fired:
		if e.Type != zk.EventNodeDataChanged {
			return fmt.Errorf("the configuration's event is %+v", e)
		}
	case <-time.After(wait):
		return fmt.Errorf("the configuration's watch: %w", errTime)
	}
	if data, _, err = c.Get(configPath); err != nil {
		return err
	}
	got, version := describe(data)
	return ensure(got == servers && version > before, "the configuration is %q of version %x after %x, not %q", got, version, before, servers)
}

func reconfigUnderLoad(s *servers, path string) error {
	leader, followers, err := s.roles()
	if err != nil {
		return err
	}
	l, err := s.startLoad(path)
	if err != nil {
		return err
	}
	defer l.stop.Store(true)
	c, err := s.admin(followers[0])
	if err != nil {
		return err
	}
	line := func(n int, role string) []string { text, _ := s.order("line", n, role); return []string{text} }
	const everybody = "1p 2p 3p 4o"
	without := func(n int) string {
		return strings.TrimSpace(strings.Replace(everybody+" ", fmt.Sprintf("%dp ", n), "", 1))
	}
	for _, step := range []struct {
		servers          string
		joining, leaving []string
		order            []any
	}{
		{"1p 2p 3p", nil, []string{"4"}, []any{"renew", observer}},
		{everybody, line(observer, "observer"), nil, []any{"await", observer, "observer"}},
		{"1p 2p 3p 4p", line(observer, "participant"), nil, []any{"await", observer, "follower", "leader"}},
		{everybody, line(observer, "observer"), nil, []any{"await", observer, "observer"}},
		{without(followers[1]), nil, []string{strconv.Itoa(followers[1])}, []any{"renew", followers[1]}},
		{everybody, line(followers[1], "participant"), nil, []any{"await", followers[1], "follower", "leader"}},
		{without(leader), nil, []string{strconv.Itoa(leader)}, []any{"renew", leader}},
		{everybody, line(leader, "participant"), nil, []any{"await", leader, "follower", "leader"}},
	} {
		if err := expect(c, step.servers, step.joining, step.leaving); err != nil {
			return err
		}
		if _, err := s.order(step.order...); err != nil {
			return err
		}
	}
	return l.end(c)
}

func reconfigsRefused(s *servers, _ string) error {
	leader, followers, err := s.roles()
	if err != nil {
		return err
	}
	c, err := s.admin(followers[0])
	if err != nil {
		return err
	}
	stranger, err := s.open(followers[0])
	if err != nil {
		return err
	}
	before, _, err := c.Get(configPath)
	if err != nil {
		return err
	}
	_, version := describe(before)
	kept, err := s.order("line", leader, "participant")
	if err != nil {
		return err
	}
	far := func(n int) string {
		return fmt.Sprintf("server.%d=127.0.0.1:11%03d:11%03d:participant;127.0.0.1:11%03d", n, n, n+100, n+200)
	}
	for _, refused := range []struct {
		name string
		ask  func() (*zk.Stat, error)
		is   func(error) bool
	}{
		{"NoAuth", func() (*zk.Stat, error) { return stranger.IncrementalReconfig(nil, []string{"4"}, -1) }, is(zk.ErrNoAuth)},
		{"BadVersion", func() (*zk.Stat, error) { return c.IncrementalReconfig(nil, []string{"4"}, version-1) }, is(zk.ErrBadVersion)},
		{"BadArguments", func() (*zk.Stat, error) { return c.IncrementalReconfig([]string{"server.9=nonsense"}, nil, -1) }, is(zk.ErrBadArguments)},
		{"NewConfigNoQuorum", func() (*zk.Stat, error) { return c.Reconfig([]string{kept, far(8), far(9)}, -1) }, func(err error) bool { return err != nil && strings.Contains(err.Error(), "-13") }},
	} {
		var got error
		answered := func() bool {
			_, got = refused.ask()
			return !lost(got) && (got == nil || !strings.Contains(got.Error(), "-14")) // no other change is under way
		}
		if err := until(refused.name, answered); err != nil {
			return err
		}
		if !refused.is(got) {
			return fmt.Errorf("%s is answered with: %v", refused.name, got)
		}
	}
	after, _, err := c.Get(configPath)
	if err != nil {
		return err
	}
	return ensure(string(after) == string(before), "a refused change has changed something")
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
