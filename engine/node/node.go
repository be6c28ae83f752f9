package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn/engine/console"
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/zkserver"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/zkserver/zoocfg"
	"cairn/engine/limits"
	"cairn/engine/link"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// Config says what one box is to be.
type Config struct {
	// Version of this binary, for people.
	Version string
	// Data is the directory of everything that the box keeps.
	Data string
	// Kafka is the broker; nil leaves the wing out.
	Kafka *Kafka
	// ZooKeeper is the server for ZooKeeper's clients; nil leaves its door closed. The tree is there all the same.
	ZooKeeper *ZooKeeper
	// Ensemble says which boxes this one agrees with; nil: it is alone.
	Ensemble *Ensemble
	// HTTP is the console's address; empty leaves it out.
	HTTP string
	// Limits are all maxima.
	Limits limits.Limits
	// CPUs that the box may use.
	CPUs int
	// ClockTrusted says that the operator vouches for the wall clock.
	ClockTrusted bool

	adjust Adjust // see With
}

// Kafka configures the broker's door.
type Kafka struct {
	Listen string
	// AdvertisedHost and AdvertisedPort are what clients are told; empty and 0: where they came in.
	AdvertisedHost string
	AdvertisedPort int32
	// Settings are the operator's broker settings, by Kafka's names.
	Settings map[string]string
}

// ZooKeeper configures the ensemble's door.
type ZooKeeper struct {
	Listen string
	// File is a parsed zoo.cfg, or nil for cairn's own defaults.
	File *zoocfg.Config
	// LinearizableReads makes every read wait for a round among the servers; the file may say so too.
	LinearizableReads bool
}

// Deps is the outside of a box.
type Deps struct {
	Runtime  mailbox.Runtime
	Clock    clock.Clock
	FS       vfs.FS
	Observer *observe.Observer
	Random   io.Reader
	Listen   func(network, address string) (net.Listener, error)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	// Link makes what carries bytes between boxes; nil: link.New, over Listen and Dial.
	Link func(link.Config) (Link, error)
	// Synchronised says whether something keeps the wall clock right; nil: what the kernel says, clock.Synchronised.
	Synchronised func() bool
}

// Node is one box.
type Node struct {
	cfg  Config
	deps Deps
	id   identity

	syncer    *syncer.Syncer
	peers     *peers // nil when this box is alone
	boxes     *boxes // nil when this box is alone, or has no broker
	ensemble  *ensemble.Ensemble
	broker    *broker
	zookeeper *zkserver.Server
	console   *console.Console
	carrier   *carrier

	zkListener net.Listener
	ready      atomic.Bool
	readySoon  chan struct{}  // closed when the box is ready
	starting   sync.WaitGroup // the goroutine that carries the start
	stop       []closer       // what Close undoes, in the order of the start
}

type closer struct {
	name  string
	close func() error
}

// ErrRejoin: the box is to be opened once more, and joins the others anew. It wraps why.
var ErrRejoin = ensemble.ErrRejoin

// ListenError names the flag whose address cannot be listened on.
type ListenError struct {
	Flag, Address string
	Err           error
}

// Error says what to do.
func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %v; give another address with --%s", e.Address, e.Err, e.Flag)
}

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// Open starts a box. Its doors are open when it returns, or nothing is left behind; it serves from Ready on. Errors:
// vfs.ErrLocked for data that another process uses, ErrNewer, *ListenError, and those of the rooms.
func Open(cfg Config, deps Deps) (*Node, error) {
	n := &Node{cfg: cfg, deps: deps, readySoon: make(chan struct{})}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open() error {
	for _, step := range []func() error{n.openData, n.openDoors, n.openLink, n.openCarrier, n.openEnsemble, n.openZooKeeper, n.openBroker, n.openConsole} {
		if err := step(); err != nil {
			return err
		}
	}
	n.starting.Go(n.awaitReady)
	return nil
}

func (n *Node) synchronised() bool {
	if n.deps.Synchronised != nil {
		return n.deps.Synchronised()
	}
	return clock.Synchronised()
}

// closes registers what Close does, in reverse order.
func (n *Node) closes(name string, f func() error) { n.stop = append(n.stop, closer{name, f}) }

// openData takes the data directory for this process alone.
func (n *Node) openData() error {
	if err := makeDirectory(n.deps.FS, n.cfg.Data); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	lock, err := n.deps.FS.Lock(path.Join(n.cfg.Data, "lock"))
	if err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("data directory %s is in use by another cairn: stop that one, or give another directory with --data: %w", n.cfg.Data, err)
		}
		return fmt.Errorf("lock the data directory: %w", err)
	}
	n.closes("data lock", lock.Close)
	box := int32(1)
	if n.cfg.Ensemble != nil {
		box = int32(n.cfg.Ensemble.Box)
	}
	if n.id, err = readIdentity(n.deps.FS, n.cfg.Data, box); err != nil {
		return err
	}
	if n.cfg.Ensemble != nil && n.id.box != box {
		return fmt.Errorf("the data in %s is server %d's, and this server is told to be %d: give each server its own directory", n.cfg.Data, n.id.box, box)
	}
	n.syncer = syncer.New(n.deps.Runtime, syncer.Config{Name: "data", Observer: n.deps.Observer})
	n.closes("syncer", func() error { n.syncer.Close(); return nil })
	return nil
}

// openDoors listens on every address before anything slow begins, so that a port in use is said at once.
func (n *Node) openDoors() error {
	if n.cfg.ZooKeeper == nil {
		return nil
	}
	l, err := n.deps.Listen("tcp", n.cfg.ZooKeeper.Listen)
	if err != nil {
		return &ListenError{"zookeeper-listen", n.cfg.ZooKeeper.Listen, err}
	}
	n.zkListener = l
	n.closes("zookeeper listener", func() error {
		_ = l.Close() // the server has closed it already if it had begun to serve
		return nil
	})
	return nil
}

func (n *Node) ensembleConfig() ensemble.Config {
	cfg := ensemble.Config{Dir: path.Join(n.cfg.Data, "ensemble"), Box: uint64(n.id.box), Limits: n.cfg.Limits.ZooKeeper, Build: n.cfg.Version}
	if e := n.cfg.Ensemble; e != nil {
		cfg.Voters, cfg.Learners, cfg.Servers, cfg.Admit = e.Voters, e.Learners, e.Servers, e.Admit
	}
	if n.cfg.ZooKeeper != nil && n.cfg.ZooKeeper.File != nil {
		ensembleFrom(&cfg, n.cfg.ZooKeeper.File)
	}
	if n.cfg.adjust.Ensemble != nil {
		n.cfg.adjust.Ensemble(&cfg)
	}
	return cfg
}

func (n *Node) openEnsemble() error {
	deps := ensemble.Deps{
		Runtime: n.deps.Runtime, FS: n.deps.FS, Syncer: n.syncer, Observer: n.deps.Observer, Random: n.deps.Random,
	}
	if n.peers != nil {
		deps.Transport, deps.Ask = n.peers, n.peers.ask
		deps.Peers = n.follow
	}
	e, err := ensemble.Open(n.ensembleConfig(), deps)
	if err != nil {
		return fmt.Errorf("ensemble: %w", err)
	}
	n.ensemble = e
	n.closes("ensemble", e.Close)
	n.closes("leadership", func() error { n.resign(); return nil })
	if n.peers != nil {
		n.peers.ensemble.Store(e)
		n.peers.link.Start()
	}
	return nil
}

func (n *Node) openZooKeeper() error {
	if n.cfg.ZooKeeper == nil {
		return nil
	}
	s, err := zkserver.New(n.zkserverConfig(), zkserver.Deps{
		Ensemble: n.ensemble, Clock: n.deps.Clock, Observer: n.deps.Observer, Random: n.deps.Random, DirSizes: n.dirSizes, OpenFiles: observe.OpenFiles,
	})
	if err != nil {
		return err
	}
	n.zookeeper = s
	served := make(chan error, 1)
	go func() { served <- s.Serve(n.zkListener) }()
	n.closes("zookeeper server", func() error {
		s.Close()
		if err := <-served; !errors.Is(err, zkserver.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (n *Node) openBroker() error {
	if n.cfg.Kafka == nil {
		return nil
	}
	b, err := openBroker(n)
	n.broker = b // what is open of it is closed by Close
	return err
}

// zkserverConfig is the server's configuration from a zoo.cfg, or cairn's own: no word but srvr, ruok, mntr and the
// other reading ones, since the door is loopback unless somebody opened it.
func (n *Node) zkserverConfig() zkserver.Config {
	_, port := hostPort(n.zkListener.Addr())
	cfg := zkserver.Config{
		Limits: n.cfg.Limits.ZooKeeper, LinearizableReads: n.cfg.ZooKeeper.LinearizableReads,
		Admin: zkadmin.Config{
			Version: zookeeperVersion + "-cairn", Built: builtAt, Words: []string{"*"}, ClientPort: port, SecureClientPort: -1,
			DataDir: n.cfg.Data, DataLogDir: n.cfg.Data, TickTime: 2 * time.Second,
			MaxClientConnections: n.cfg.Limits.ZooKeeper.ConnectionsPerAddressMax,
			MinSessionTimeout:    4 * time.Second, MaxSessionTimeout: 40 * time.Second,
			ServerID: int64(n.id.box), CommandURL: "/commands", ListenBacklog: -1, Carrier: n.carrier,
		},
	}
	if f := n.cfg.ZooKeeper.File; f != nil {
		zkserverFrom(&cfg, f)
	}
	if n.cfg.adjust.ZooKeeper != nil {
		n.cfg.adjust.ZooKeeper(&cfg)
	}
	return cfg
}

// zookeeperVersion is the release whose behaviour the ensemble has, as clients are told it.
const zookeeperVersion = "3.9.5"

// awaitReady carries the box to readiness: the tree is recent, and with a broker its partitions are led.
func (n *Node) awaitReady() {
	recent := make(chan error, 1)
	if n.cfg.adjust.StaleCatalog {
		recent <- nil
	} else {
		n.ensemble.ReadIndex(func(_ uint64, err error) { recent <- err })
	}
	if err := <-recent; err != nil {
		if !errors.Is(err, ensemble.ErrClosed) { // stopped before it was ready
			n.deps.Observer.Log.Error("the box does not start", "error", err)
		}
		return
	}
	if n.broker != nil {
		n.broker.begin(func() { n.markReady() })
		return
	}
	n.markReady()
}

func (n *Node) markReady() {
	n.ready.Store(true)
	close(n.readySoon)
}

// Ready is closed when the box serves.
func (n *Node) Ready() <-chan struct{} { return n.readySoon }

// Failed is the error for which the box cannot serve any more, or nil.
func (n *Node) Failed() error { return n.ensemble.Failed() }

// Addresses are where the doors are: kafka, zookeeper and http, as far as they are open.
func (n *Node) Addresses() map[string]net.Addr {
	m := map[string]net.Addr{}
	if n.broker != nil && n.broker.server != nil {
		m["kafka"] = n.broker.server.Address(listenerName)
	}
	if n.zkListener != nil {
		m["zookeeper"] = n.zkListener.Addr()
	}
	if n.console != nil {
		m["http"] = n.console.Addr()
	}
	return m
}

// Close stops the box in the reverse order of its start, at whatever point that is, and returns the errors of what did
// not stop cleanly.
func (n *Node) Close() error {
	var errs []error
	for _, c := range slices.Backward(n.stop) {
		if err := c.close(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	n.stop = nil
	n.starting.Wait() // the ensemble has answered it
	return errors.Join(errs...)
}

// stopTime is how long requests in hand may take to be answered at a stop.
const stopTime = 3 * time.Second

func stopContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), stopTime)
}
