package node

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/zkserver/zoocfg"
	"cairn/engine/link"
	"cairn/platform/loopback"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

// servers are boxes of one ensemble in this process, with real sockets.
type servers struct {
	t         *testing.T
	dir       string
	configs   map[uint64]Config
	listeners sync.Map // address → net.Listener that was opened to have the address
	nodes     map[uint64]*Node
	asked     atomic.Int64         // questions between boxes
	disks     map[uint64]*vfs.Plan // what goes wrong with a server's files; nil: nothing
}

// newServers configures voters 1 to n.
func newServers(t *testing.T, n uint64) *servers {
	t.Helper()
	s := &servers{t: t, dir: t.TempDir(), configs: map[uint64]Config{}, nodes: map[uint64]*Node{}, disks: map[uint64]*vfs.Plan{}}
	addresses := map[uint64]string{}
	var voters []uint64
	var lines quorum.Config
	for id := uint64(1); id <= n; id++ {
		addresses[id] = s.reserve()
		voters = append(voters, id)
		lines.Servers = append(lines.Servers, serverLine(s.t, id, addresses[id]))
	}
	for id := uint64(1); id <= n; id++ {
		cfg := testConfig(filepath.Join(s.dir, fmt.Sprint(id)))
		cfg.Kafka, cfg.ZooKeeper.Listen = nil, s.reserve()
		cfg.Ensemble = &Ensemble{Box: id, Voters: voters, Listen: addresses[id], Peers: map[uint64]string{}, Cluster: "test", Servers: lines}
		for other, address := range addresses {
			if other != id {
				cfg.Ensemble.Peers[other] = address
			}
		}
		s.configs[id] = cfg
	}
	t.Cleanup(func() {
		for _, n := range s.nodes {
			_ = n.Close()
		}
	})
	return s
}

// threeServers are voters 1 to 3, and serve.
func threeServers(t *testing.T) *servers {
	t.Helper()
	s := newServers(t, 3)
	for id := uint64(1); id <= 3; id++ {
		s.open(id)
	}
	for id := uint64(1); id <= 3; id++ {
		s.ready(id)
	}
	return s
}

// serverLine is a server's line. Nobody listens on the election port.
func serverLine(t *testing.T, id uint64, address string) quorum.Server {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return quorum.Server{ID: int64(id), Host: host, PeerPort: number, ElectionPort: int(id)}
}

// reserve gives an address that stays the server's: a listener holds it until the server comes for it.
func (s *servers) reserve() string {
	s.t.Helper()
	l, err := loopback.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	s.listeners.Store(l.Addr().String(), l)
	return l.Addr().String()
}

func (s *servers) listen(network, address string) (net.Listener, error) {
	if l, ok := s.listeners.LoadAndDelete(address); ok {
		return l.(net.Listener), nil
	}
	return net.Listen(network, address)
}

func (s *servers) open(id uint64) {
	s.t.Helper()
	deps := testDeps()
	deps.Listen = s.listen
	deps.Link = func(cfg link.Config) (Link, error) {
		l, err := link.New(cfg, link.Deps{Listen: deps.Listen, Dial: deps.Dial, Observer: deps.Observer})
		return countedLink{l, &s.asked}, err
	}
	if plan := s.disks[id]; plan != nil {
		deps.FS = vfs.WithErrors(deps.FS, plan)
	}
	if os.Getenv("CAIRN_TEST_LOG") != "" {
		deps.Observer = observe.New(slog.New(slog.NewTextHandler(os.Stderr, nil)).With("box", id))
	}
	n, err := Open(s.configs[id], deps)
	if err != nil {
		s.t.Fatal(err)
	}
	s.nodes[id] = n
}

// countedLink counts questions.
type countedLink struct {
	Link
	asked *atomic.Int64
}

func (l countedLink) Ask(p link.Protocol, to uint64, question []byte) ([]byte, error) {
	l.asked.Add(1)
	return l.Link.Ask(p, to, question)
}

func (s *servers) ready(id uint64) {
	s.t.Helper()
	select {
	case <-s.nodes[id].Ready():
	case <-time.After(30 * time.Second):
		s.t.Fatalf("server %d is not ready after 30 s: %+v", id, s.nodes[id].ensemble.Status())
	}
}

// leader waits for a server that leads.
func (s *servers) leader() uint64 {
	s.t.Helper()
	var leader uint64
	s.eventually("a server leads", func() bool {
		for id, n := range s.nodes {
			if st := n.ensemble.Status(); st.Role == "leader" && st.Serving {
				leader = id
			}
		}
		return leader != 0
	})
	return leader
}

// eventually waits for what other goroutines bring about.
func (s *servers) eventually(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (s *servers) client() *zk.Conn {
	s.t.Helper()
	var addresses []string
	for _, n := range s.nodes {
		addresses = append(addresses, n.Addresses()["zookeeper"].String())
	}
	c, _, err := zk.Connect(addresses, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// Three servers serve as one: what one was told, all show; the end of the leader is survived, with the session and its
// ephemeral, and a server that comes back catches up.
func TestThreeServersServeAsOne(t *testing.T) {
	s := threeServers(t)
	c := s.client()
	if _, err := c.Create("/e", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	session := c.SessionID()
	for round := range 3 {
		gone := s.leader()
		closeNode(t, s.nodes[gone])
		delete(s.nodes, gone)
		deadline := time.Now().Add(30 * time.Second)
		path := fmt.Sprintf("/n%d", round)
		for {
			_, err := c.Create(path, []byte("x"), 0, zk.WorldACL(zk.PermAll))
			if err == nil || err == zk.ErrNodeExists {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: no write goes through: %v", round, err)
			}
		}
		s.open(gone)
		s.ready(gone)
		direct, _, err := zk.Connect([]string{s.nodes[gone].Addresses()["zookeeper"].String()}, 4*time.Second, zk.WithLogInfo(false))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := direct.Sync("/"); err != nil {
			t.Fatalf("round %d: sync: %v", round, err)
		}
		if data, _, err := direct.Get(path); err != nil || string(data) != "x" {
			t.Fatalf("round %d: the server that came back shows %q, %v", round, data, err)
		}
		if ok, _, err := direct.Exists("/e"); err != nil || !ok {
			t.Fatalf("round %d: the ephemeral is gone, %v", round, err)
		}
		direct.Close()
	}
	if c.SessionID() != session {
		t.Fatalf("session 0x%x became 0x%x", session, c.SessionID())
	}
}

func TestEnsembleFromServerLines(t *testing.T) {
	text := "dataDir=/d\nclientPort=2181\ninitLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=[::1]:2889:3889\nserver.3=c:2890:3890:observer\n"
	f, err := zoocfg.Load(zoocfg.Source{File: "zoo.cfg", ReadFile: func(name string) ([]byte, error) {
		if strings.HasSuffix(name, "myid") {
			return []byte("2\n"), nil
		}
		return []byte(text), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	e := EnsembleFrom(f)
	got := fmt.Sprintf("%d %v %v %s %v", e.Box, e.Voters, e.Learners, e.Listen, e.Peers)
	if want := "2 [1 2] [3] [::1]:2889 map[1:a:2888 3:c:2890]"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}
