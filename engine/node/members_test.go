package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"cairn/engine/ensemble/zkserver/zoocfg"
)

// reconfigurable lets everybody change the configuration.
func (s *servers) reconfigurable() {
	s.t.Helper()
	for id, cfg := range s.configs {
		text := "dataDir=/d\nclientPort=2181\nreconfigEnabled=true\nskipACL=yes\nmaxClientCnxns=0\n"
		f, err := zoocfg.Load(zoocfg.Source{File: "zoo.cfg", ReadFile: func(name string) ([]byte, error) {
			if strings.HasSuffix(name, "myid") {
				return nil, os.ErrNotExist
			}
			return []byte(text), nil
		}})
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.ZooKeeper.File = f
		s.configs[id] = cfg
	}
}

// voters waits until the servers that vote are these, as every open server sees it.
func (s *servers) voters(want ...uint64) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		agree := true
		for _, id := range want {
			st := s.nodes[id].ensemble.Status()
			slices.Sort(st.Voters)
			agree = agree && slices.Equal(st.Voters, want)
		}
		if agree {
			return
		}
		if time.Now().After(deadline) {
			for id, n := range s.nodes {
				s.t.Logf("server %d: %+v", id, n.ensemble.Status())
			}
			s.t.Fatalf("the voters do not become %v", want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// change makes a change of the configuration that may be made twice: on a busy machine an election may take its answer.
func (s *servers) change(f func() error) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if err != zk.ErrConnectionClosed && err != zk.ErrNoServer || time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
}

func (s *servers) write(c *zk.Conn, path string) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := c.Create(path, []byte("x"), 0, zk.WorldACL(zk.PermAll))
		if err == nil || err == zk.ErrNodeExists {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no write goes through: %v", err)
		}
	}
}

// shows waits until a server shows a node.
func (s *servers) shows(id uint64, path string) {
	s.t.Helper()
	c, _, err := zk.Connect([]string{s.nodes[id].Addresses()["zookeeper"].String()}, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Sync("/"); err != nil {
		s.t.Fatalf("server %d: sync: %v", id, err)
	}
	if data, _, err := c.Get(path); err != nil || string(data) != "x" {
		s.t.Fatalf("server %d shows %q, %v", id, data, err)
	}
}

func (s *servers) stop(id uint64) {
	s.t.Helper()
	closeNode(s.t, s.nodes[id])
	delete(s.nodes, id)
}

// A server that waits is added by reconfig and votes; one that is removed votes no more, and may come back.
func TestReconfigAddsAndRemoves(t *testing.T) {
	s := newServers(t, 4)
	s.reconfigurable()
	for id := uint64(1); id <= 3; id++ { // the first three know nothing of the fourth
		cfg := s.configs[id]
		cfg.Ensemble.Voters = cfg.Ensemble.Voters[:3]
		cfg.Ensemble.Servers.Servers = cfg.Ensemble.Servers.Servers[:3]
		delete(cfg.Ensemble.Peers, 4)
		s.open(id)
	}
	for id := uint64(1); id <= 3; id++ {
		s.ready(id)
	}
	s.open(4)
	c := s.client()
	s.write(c, "/before")
	line := s.configs[4].Ensemble.Servers.Servers[3]
	s.change(func() error {
		_, err := c.IncrementalReconfig([]string{fmt.Sprintf("server.4=%s", line.Text())}, nil, -1)
		return err
	})
	s.ready(4)
	s.voters(1, 2, 3, 4)
	s.shows(4, "/before")
	text, stat, err := c.Get("/zookeeper/config")
	if err != nil || !strings.Contains(string(text), "server.4=127.0.0.1:") || stat.Version != -1 {
		t.Fatalf("the configuration is %q (version %d), %v", text, stat.Version, err)
	}
	_, version, _ := strings.Cut(string(text), "version=")
	for _, wrong := range []string{"server.5=x:1", "server.x=a:1:2", "nonsense"} {
		if _, err := c.IncrementalReconfig([]string{wrong}, nil, -1); err != zk.ErrBadArguments {
			t.Fatalf("joining %q: %v", wrong, err)
		}
	}
	if _, err := c.IncrementalReconfig(nil, []string{"2"}, 7); err != zk.ErrBadVersion {
		t.Fatalf("a change of version 7, and it is %s: %v", version, err)
	}
	s.change(func() error { _, err := c.IncrementalReconfig(nil, []string{"1"}, -1); return err })
	s.voters(2, 3, 4)
	s.write(c, "/without-1")
	lines := ""
	for _, l := range s.configs[4].Ensemble.Servers.Servers {
		lines += fmt.Sprintf("server.%d=%s\n", l.ID, l.Text())
	}
	s.change(func() error { _, err := c.Reconfig(strings.Split(strings.TrimSpace(lines), "\n"), -1); return err })
	s.voters(1, 2, 3, 4)
	s.shows(1, "/without-1")
}

// A server whose disk was lost comes back under a new raft id, with all of the tree, and votes.
func TestAServerWhoseDiskWasLost(t *testing.T) {
	s := threeServers(t)
	c := s.client()
	s.write(c, "/a")
	lost := s.leader()
	others := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == lost })
	before := s.nodes[lost].ensemble.RaftID()
	s.stop(lost)
	s.write(c, "/b")
	if err := os.RemoveAll(filepath.Join(s.configs[lost].Data, "ensemble")); err != nil {
		t.Fatal(err)
	}
	s.open(lost)
	s.ready(lost)
	s.voters(1, 2, 3)
	if after := s.nodes[lost].ensemble.RaftID(); after == before || after&0xffffffff != lost {
		t.Fatalf("server %d had raft id %x and has %x on an empty disk", lost, before, after)
	}
	s.shows(lost, "/a")
	s.shows(lost, "/b")
	s.stop(others[0]) // its vote counts now: it is half of what is left
	s.write(c, "/c")
	s.shows(lost, "/c")
}

// When the majority is lost for good, one box goes on from its own disk, and the others join it anew, whatever their
// directories hold.
func TestRecoverFromOneBox(t *testing.T) {
	s := threeServers(t)
	c := s.client()
	s.write(c, "/a")
	s.shows(2, "/a")
	_, stat, err := c.Get("/a")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for id := uint64(1); id <= 3; id++ {
		s.stop(id)
	}
	if err := os.RemoveAll(filepath.Join(s.configs[1].Data, "ensemble")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be done twice
		got, err := Recover(Config{Data: s.configs[2].Data, Limits: s.configs[2].Limits}, testDeps())
		if err != nil {
			t.Fatal(err)
		}
		if got.Box != 2 || got.Zxid < stat.Czxid+1<<32 || !slices.Equal(got.ServersAway, []uint64{1, 3}) {
			t.Fatalf("%+v", got)
		}
	}
	s.open(2)
	s.ready(2)
	s.voters(2)
	again := s.client()
	if data, _, err := again.Get("/a"); err != nil || string(data) != "x" {
		t.Fatalf("%q, %v", data, err)
	}
	s.write(again, "/b")
	if _, now, err := again.Get("/b"); err != nil || now.Czxid < stat.Czxid+1<<32 {
		t.Fatalf("/b has czxid %x after %x, %v", now.Czxid, stat.Czxid, err)
	}
	s.open(1) // its disk was lost
	s.ready(1)
	s.open(3) // it has its old log, and is told that it has no place
	select {
	case <-s.nodes[3].Ready():
		t.Fatal("server 3 went on with its old log")
	case <-failed(s.nodes[3]):
	}
	s.stop(3)
	s.open(3)
	s.ready(3)
	s.voters(1, 2, 3)
	s.shows(3, "/b")
}

// failed is closed once a node can serve no more.
func failed(n *Node) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for deadline := time.Now().Add(30 * time.Second); n.Failed() == nil && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		close(done)
	}()
	return done
}
