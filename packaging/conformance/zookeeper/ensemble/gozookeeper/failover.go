package main

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/go-zookeeper/zk"
)

func failoverFromFollower(s *servers, path string) error {
	_, followers, err := s.roles()
	if err != nil {
		return err
	}
	return failover(s, path, followers[0], followers[1])
}

func failoverFromLeader(s *servers, path string) error {
	leader, followers, err := s.roles()
	if err != nil {
		return err
	}
	return failover(s, path, leader, followers[0])
}

func failoverToObserver(s *servers, path string) error {
	leader, _, err := s.roles()
	if err != nil {
		return err
	}
	return failover(s, path, leader, observer)
}

// failover kills the client's server while it has an ephemeral, watches and creates under way. Another client changes
// things while it is away; then it goes on at the refuge.
func failover(s *servers, path string, victim, refuge int) error {
	c, err := s.open(victim)
	if err != nil {
		return err
	}
	session := c.SessionID()
	var others []int
	for _, n := range voters {
		if n != victim {
			others = append(others, n)
		}
	}
	other, err := s.open(others...)
	if err != nil {
		return err
	}
	for _, node := range []string{"", "/n", "/changed", "/same", "/deleted", "/parent"} {
		if err := c.make(path+node, "before", 0); err != nil {
			return err
		}
	}
	if err := c.make(path+"/alive", "", zk.FlagEphemeral); err != nil {
		return err
	}
	w, err := watch(c, path)
	if err != nil {
		return err
	}
	done := createsUnderWay(c, path+"/n", func() error {
		c.goTo()
		_, err := s.order("kill", victim)
		return err
	})
	if done.err != nil {
		return done.err
	}
	if err := until("the connection is lost", func() bool { return c.State() != zk.StateHasSession }); err != nil {
		return err
	}
	for _, change := range []func() error{
		func() error { _, err := other.Set(path+"/changed", []byte("after"), -1); return err },
		func() error { return other.Delete(path+"/deleted", -1) },
		func() error { return other.make(path+"/created", "", 0) },
		func() error { return other.make(path+"/parent/child", "", 0) },
	} {
		if err := again(change); err != nil {
			return fmt.Errorf("while the client was away: %w", err)
		}
	}
	c.goTo(refuge)
	var stat *zk.Stat
	if err := again(func() error { _, stat, err = c.Get(path + "/alive"); return err }); err != nil {
		return err
	}
	if err := ensure(c.SessionID() == session && stat.EphemeralOwner == session, "session %x is %x now, and %x owns its ephemeral", session, c.SessionID(), stat.EphemeralOwner); err != nil {
		return err
	}
	if err := w.fired(path); err != nil {
		return err
	}
	return done.judge(c, path+"/n")
}

// watches are those of a client before its server dies.
type watches struct{ changed, same, deleted, created, parent, none <-chan zk.Event }

func watch(c *client, path string) (w watches, err error) {
	get := func(node string) (ch <-chan zk.Event) {
		if err == nil {
			_, _, ch, err = c.GetW(path + node)
		}
		return ch
	}
	exists := func(node string) (ch <-chan zk.Event) {
		if err == nil {
			_, _, ch, err = c.ExistsW(path + node)
		}
		return ch
	}
	w.changed, w.same, w.deleted = get("/changed"), get("/same"), get("/deleted")
	w.created, w.none = exists("/created"), exists("/none")
	if err == nil {
		_, _, w.parent, err = c.ChildrenW(path + "/parent")
	}
	return w, err
}

// fired waits for the events of what changed, and makes sure that nothing else came.
func (w watches) fired(path string) error {
	for _, expected := range []struct {
		ch   <-chan zk.Event
		kind zk.EventType
		node string
	}{
		{w.changed, zk.EventNodeDataChanged, "/changed"},
		{w.deleted, zk.EventNodeDeleted, "/deleted"},
		{w.created, zk.EventNodeCreated, "/created"},
		{w.parent, zk.EventNodeChildrenChanged, "/parent"},
	} {
		var e zk.Event
		came := func() bool {
			select {
			case e = <-expected.ch:
				return true
			default:
				return false
			}
		}
		if err := until("the event of "+expected.node, came); err != nil {
			return err
		}
		if e.Type != expected.kind || e.Path != path+expected.node {
			return fmt.Errorf("watch of %s: %+v", expected.node, e)
		}
	}
	select {
	case e := <-w.same:
		return fmt.Errorf("a watch of what did not change fired: %+v", e)
	case e := <-w.none:
		return fmt.Errorf("a watch of what is not there fired: %+v", e)
	default:
		return nil
	}
}

// creates are numbered creates that are under way at once, and what came of them.
type creates struct {
	made map[int]string // by number
	err  error
}

const (
	createsCount = 400
	createsFirst = 30 // are answered before something happens
)

// createsUnderWay sends creates, the odd ones with sequence numbers, and calls then when some are answered.
func createsUnderWay(c *client, parent string, then func() error) creates {
	var mu sync.Mutex
	var all sync.WaitGroup
	done := creates{made: map[int]string{}}
	started := make(chan struct{}, createsCount)
	for i := range createsCount {
		all.Go(func() {
			path, flags := fmt.Sprintf("%s/p-%d", parent, i), int32(0)
			if i%2 == 1 {
				path, flags = parent+"/s-", zk.FlagSequence
			}
			name, err := c.Create(path, []byte(strconv.Itoa(i)), flags, zk.WorldACL(zk.PermAll))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done.made[i] = name
			} else if !lost(err) {
				done.err = fmt.Errorf("create %d: %w", i, err)
			}
			started <- struct{}{}
		})
	}
	for range createsFirst {
		<-started
	}
	err := then()
	all.Wait()
	if err != nil {
		done.err = err
	}
	return done
}

// judge makes sure that each number is there at most once, and every answered one under the name of its answer.
func (d creates) judge(c *client, parent string) error {
	names, _, err := c.Children(parent)
	if err != nil {
		return err
	}
	found := map[int]string{}
	for _, name := range names {
		data, _, err := c.Get(parent + "/" + name)
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		if was, twice := found[i]; twice {
			return fmt.Errorf("create %d came to pass twice: %s and %s", i, was, name)
		}
		found[i] = parent + "/" + name
	}
	for i, name := range d.made {
		if found[i] != name {
			return fmt.Errorf("create %d was answered with %s, and is %q", i, name, found[i])
		}
	}
	return ensure(len(d.made) >= createsFirst, "only %d creates were answered", len(d.made))
}
