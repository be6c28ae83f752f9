package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/go-zookeeper/zk"
)

func pipelinedThroughFollower(s *servers, path string) error {
	_, followers, err := s.roles()
	if err != nil {
		return err
	}
	return pipeline(s, path, followers[0])
}

func pipelinedThroughObserver(s *servers, path string) error { return pipeline(s, path, observer) }

const pipelines = 1000 // goroutines on one connection

// pipeline has thousands of operations under way on one connection: each goroutine sees what itself has written.
func pipeline(s *servers, path string, server int) error {
	c, err := s.open(server)
	if err != nil {
		return err
	}
	if err := c.make(path, "", 0); err != nil {
		return err
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	zxids := map[int64]int{}
	for i := range pipelines {
		all.Go(func() {
			got, err := oneOfMany(c, fmt.Sprintf("%s/%d", path, i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = fmt.Errorf("of number %d: %w", i, err)
			}
			for _, zxid := range got {
				zxids[zxid]++
			}
		})
	}
	all.Wait()
	if failed != nil {
		return failed
	}
	return ensure(len(zxids) == 3*pipelines, "%d transactions have %d zxids", 3*pipelines, len(zxids))
}

func oneOfMany(c *client, node string) (zxids []int64, err error) {
	if err := c.make(node, "0", 0); err != nil {
		return nil, err
	}
	data, created, err := c.Get(node)
	if err != nil || string(data) != "0" || created.Version != 0 {
		return nil, fmt.Errorf("after its create: %q %+v, %w", data, created, err)
	}
	set, err := c.Set(node, []byte("1"), 0)
	if err != nil {
		return nil, err
	}
	if there, stat, err := c.Exists(node); err != nil || !there || stat.Mzxid != set.Mzxid || stat.Version != 1 {
		return nil, fmt.Errorf("after its set: %+v, %w", stat, err)
	}
	acl := zk.WorldACL(zk.PermAll)
	results, err := c.Multi(&zk.CheckVersionRequest{Path: node, Version: 1}, &zk.CreateRequest{Path: node + "/in", Acl: acl}, &zk.SetDataRequest{Path: node, Data: []byte("2"), Version: 1})
	if err != nil || results[1].String != node+"/in" || results[2].Stat.Version != 2 {
		return nil, fmt.Errorf("multi: %+v, %w", results, err)
	}
	refused, err := c.Multi(&zk.DeleteRequest{Path: node + "/in", Version: -1}, &zk.SetDataRequest{Path: node, Version: 1}, &zk.CreateRequest{Path: node + "/no", Acl: acl})
	if len(refused) != 3 || !errors.Is(refused[1].Error, zk.ErrBadVersion) {
		return nil, fmt.Errorf("a multi that must fail: %+v, %w", refused, err)
	}
	data, stat, err := c.Get(node)
	if err != nil || string(data) != "2" || stat.Version != 2 || stat.NumChildren != 1 {
		return nil, fmt.Errorf("a multi that failed has left %q %+v, %w", data, stat, err)
	}
	if created.Czxid >= set.Mzxid || set.Mzxid >= stat.Mzxid {
		return nil, fmt.Errorf("zxids do not rise: %x, %x, %x", created.Czxid, set.Mzxid, stat.Mzxid)
	}
	return []int64{created.Czxid, set.Mzxid, stat.Mzxid}, nil
}

// czxidRises registers again and again, as Kafka's brokers do, over leaders that die and a restart of all.
func czxidRises(s *servers, path string) error {
	var last int64
	for round := range 4 {
		c, err := s.open(1, 2, 3, observer)
		if err != nil {
			return err
		}
		if err := again(func() error { return c.make(path, "", zk.FlagEphemeral) }); err != nil {
			return err
		}
		_, stat, err := c.Get(path)
		if err != nil {
			return err
		}
		if err := ensure(stat.Czxid > last && stat.EphemeralOwner == c.SessionID(), "round %d: czxid %x after %x", round, stat.Czxid, last); err != nil {
			return err
		}
		last = stat.Czxid
		if round%2 == 0 {
			c.Close()
			leader, _, err := s.roles()
			if err != nil {
				return err
			}
			if err := s.orders([]any{"kill", leader}, []any{"leader"}, []any{"heal"}); err != nil {
				return err
			}
			continue
		}
		for n := range s.address {
			if _, err := s.order("kill", n); err != nil {
				return err
			}
		}
		if _, err := s.order("heal"); err != nil {
			return err
		}
		var kept *zk.Stat
		if err := again(func() error { _, kept, err = c.Get(path); return err }); err != nil {
			return err
		}
		if err := ensure(kept.Czxid == last, "a restart of all: czxid %x was %x", kept.Czxid, last); err != nil {
			return err
		}
		if err := again(func() error { return c.Delete(path, -1) }); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	return nil
}
