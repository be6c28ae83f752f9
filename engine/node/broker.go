package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
	"cairn/engine/broker/coordinator"
	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/kafkaserver"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/settings"
	"cairn/engine/broker/topics"
	"cairn/platform/clock"
	"cairn/platform/syncer"
)

// listenerName is the name of the one listener of a box without login.
const listenerName = "PLAINTEXT"

// broker is the Kafka wing of a box.
type broker struct {
	n           *Node
	incarnation catalog.UUID
	tree        *tree
	catalog     *catalog.Catalog
	controller  *controller.Controller
	shards      *replica.Shards
	dirs        []logDir
	syncers     map[uint64]*syncer.Syncer // by device
	topics      *topics.Topics
	fetcher     *fetcher.Fetcher // nil where this box is alone
	groups      *coordinator.Coordinator
	server      *kafkaserver.Server

	enroll      func(catalog.Registration, func(error))  // the tree's Register; a test's fails
	recent      func(func(error))                        // the tree's ReadIndex
	brokerEpoch atomic.Int64                             // of this box's registration, as the catalog shows it; 0 while it shows none
	running     context.Context                          // is over when the box stops: nothing is waited for any more
	stop        context.CancelFunc                       // ends running
	stopping    atomic.Bool                              // the box stops: it registers no more
	telling     atomic.Bool                              // tellDirectories is at work
	usedTenths  atomic.Int32                             // of the space for logs, as the cluster is to know it
	offline     atomic.Pointer[map[catalog.UUID][]int32] // what the topics room said last
	settled     func()                                   // what begin was given; set before the catalog follows the tree
	seen        bool                                     // the catalog has shown this start of the box; of the goroutine that applies entries
}

// openBroker opens the wing's rooms from the bottom up: the catalog follows the tree, then the logs, then the server's
// door. Nothing is led before begin.
func openBroker(n *Node) (*broker, error) {
	b := &broker{n: n, tree: &tree{e: n.ensemble}}
	b.running, b.stop = context.WithCancel(context.Background())
	b.enroll, b.recent = b.tree.Register, b.tree.ReadIndex
	if _, err := rand.Read(b.incarnation[:]); err != nil {
		return b, err
	}
	if err := settings.CheckStatic(n.cfg.Kafka.Settings); err != nil {
		return b, fmt.Errorf("kafka settings: %w", err)
	}
	for _, step := range []func() error{b.openCatalog, b.openGroups, b.openFetcher, b.openLogs, b.openServer} {
		if err := step(); err != nil {
			return b, err
		}
	}
	if n.boxes != nil {
		n.boxes.broker.Store(b)
	}
	return b, nil
}

func (b *broker) openCatalog() error {
	n := b.n
	base := catalog.Base{BrokerID: n.id.box, Static: settings.NewStatic(b.defaults(), b.operator())}
	if n.cfg.adjust.Catalog != nil {
		n.cfg.adjust.Catalog(&base)
	}
	b.catalog = catalog.New(base,
		func(p catalog.Problem) {
			n.deps.Observer.Log.Error("znode not understood", "path", p.Path, "error", p.Err)
		})
	b.catalog.OnChange(func(_, after *catalog.Snapshot) { b.follow(after) })
	b.openMetrics()
	b.controller = controller.New(
		controller.Config{
			BrokerID: n.id.box, Incarnation: b.incarnation, ClusterID: n.id.cluster, PartitionsMax: n.cfg.Limits.Storage.PartitionsMax,
		},
		controller.Deps{
			Runtime: n.deps.Runtime, Tree: b.tree, Catalog: b.catalog, Brokers: brokers{b}, Random: n.deps.Random, Observer: n.deps.Observer,
			Ensure: b.ensureTopic,
		})
	n.closes("controller", func() error { b.controller.Close(); return nil })
	return nil
}

// defaults are the settings that cairn derives from the hardware: segments are sized to the disk, so that a small card
// holds several of them.
func (b *broker) defaults() map[string]string {
	segment := int64(1 << 30)
	if u, err := b.n.deps.FS.Usage(b.n.cfg.Data); err == nil {
		segment = min(segment, max(int64(u.Total/64)&^(1<<20-1), 16<<20))
	}
	return map[string]string{
		"log.segment.bytes": fmt.Sprint(segment),
	}
}

// operator are the settings that the operator gave, and those that follow from where the box was told to be.
func (b *broker) operator() map[string]string {
	s := map[string]string{
		"broker.id":     fmt.Sprint(b.n.id.box),
		"node.id":       fmt.Sprint(b.n.id.box),
		"process.roles": "broker,controller",
		"listeners":     listenerName + "://" + b.n.cfg.Kafka.Listen,
	}
	maps.Copy(s, b.n.cfg.Kafka.Settings)
	if dirs, err := b.logDirPaths(); err == nil { // else the box does not start
		s["log.dirs"] = strings.Join(dirs, ",")
	}
	return s
}

func (b *broker) openLogs() error {
	n := b.n
	if err := b.openDirs(); err != nil {
		return err
	}
	shards := replica.ShardsConfig{
		Count: max(n.cfg.CPUs, 1), QueueMax: n.cfg.Limits.Storage.ShardQueueMax,
		StageBytesMax: n.cfg.Limits.Storage.StageBytesMax, WaitersMax: n.cfg.Limits.Storage.WaitersMax,
	}
	if n.cfg.adjust.Shards != nil {
		n.cfg.adjust.Shards(&shards)
	}
	b.shards = replica.NewShards(shards, b.replicaDeps())
	n.closes("shards", func() error { b.shards.Close(); return nil })
	cfg := topics.Config{
		BrokerID: n.id.box, Incarnation: b.incarnation, PartitionsMax: n.cfg.Limits.Storage.PartitionsMax, Log: seglog.DefaultConfig(),
		ProducersMax: n.cfg.Limits.Storage.ProducersMax, CompactMapBytesMax: n.cfg.Limits.Storage.CompactMapBytesMax,
		OpenBatchBytesMax: n.cfg.Limits.Storage.OpenBatchBytesMax,
	}
	if n.cfg.adjust.Topics != nil {
		n.cfg.adjust.Topics(&cfg)
	}
	b.topics = topics.New(cfg, topics.Deps{
		Runtime: n.deps.Runtime, Observer: n.deps.Observer, Catalog: b.catalog, Dirs: b.opened(), Shards: b.shards,
		GoodClock: b.goodClock, Led: b.led, Follow: b.followPartition, Offline: b.partitionsOffline, Opened: b.register,
	})
	n.closes("topics", b.topics.Close)
	return nil
}

func (b *broker) sweepDue() {
	if t := b.topics; t != nil {
		t.SweepDue()
	}
}

func (b *broker) openServer() error {
	n := b.n
	bounds := n.cfg.Limits.Kafka
	var awaitStarts func(context.Context, []kafkaserver.LogStart, time.Duration, func([]bool))
	if n.boxes != nil {
		awaitStarts = b.awaitStarts
	}
	server, err := kafkaserver.New(
		kafkaserver.Config{
			BrokerID: n.id.box, Limits: bounds,
			Listeners: []kafkaserver.ListenerConfig{{
				Name: listenerName, Address: n.cfg.Kafka.Listen,
				AdvertisedHost: n.cfg.Kafka.AdvertisedHost, AdvertisedPort: n.cfg.Kafka.AdvertisedPort,
			}},
		},
		kafkaserver.Deps{
			Clock: n.deps.Clock, Observer: n.deps.Observer, Listen: n.deps.Listen,
			Catalog: b.catalog, Replicas: kafkaserver.LocalReplicas(b.topics),
			ProducerIDs: controller.NewProducerIDs(b.allocateProducerIDs), AutoCreator: b.controller,
			LogDirs: local{b}, Groups: b.groups, Controller: forwarding{b}, Configs: b.catalog,
			Settings: b.settings, SessionID: b.sessionID, GoodClock: b.goodClock, Recent: b.recent,
			Serving: n.ensemble.Serving, AwaitStarts: awaitStarts,
		})
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return &ListenError{"kafka-listen", n.cfg.Kafka.Listen, err}
	}
	b.server = server
	n.closes("kafka server", func() error {
		ctx, cancel := stopContext()
		defer cancel()
		b.groups.Drain() // joins that wait for others would hold the stop
		server.Stop(ctx)
		return nil
	})
	n.closes("leadership of partitions", func() error { b.leave(); return nil })
	n.closes("waits for other boxes", func() error { b.stop(); return nil })
	return nil
}

// begin lets the wing act: the tree is recent. The catalog follows it, the topics open what it gives this box, the broker
// registers, the controller elects, and done is called when everything is led.
func (b *broker) begin(done func()) {
	b.settled = done
	b.watchSpace()
	b.catalog.Follow(b.tree)
	b.tree.begin()
	if b.n.cfg.adjust.StaleCatalog {
		b.topics.Start()
	}
	b.recent(func(err error) {
		switch {
		case err == nil:
			b.topics.Start()
		case !errors.Is(err, catalog.ErrClosed): // stopped before it had begun
			b.n.deps.Observer.Log.Error("broker does not start", "error", err)
		}
	})
}

// follow asks for the end of the start once the catalog shows this start of the box, and the cluster's id.
func (b *broker) follow(s *catalog.Snapshot) {
	b.watchRegistration(s)
	if b.outdated(s.Broker(b.n.id.box)) {
		b.tellSoon() // it failed while it was being registered
	}
	if b.seen || s.ClusterID == "" {
		return
	}
	if r := s.Broker(b.n.id.box); r != nil && r.Incarnation == b.incarnation {
		b.seen = true
		b.topics.Settled(b.settled)
	}
}

// registerAgain is the pause before a registration that failed is tried again: quorums pass, and a controller without a registration
// of its own plans nothing.
const registerAgain = 200 * time.Millisecond

// register makes the broker known, once its logs are open: leaders are elected above what they hold.
func (b *broker) register() {
	host, port := hostPort(b.server.Address(listenerName))
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = ""                            // every interface: clients are told the address that they came in on
		if e := b.n.cfg.Ensemble; e != nil { // and those of another box the one that boxes have
			own, _ := e.Servers.Server(int64(e.Box))
			host = own.Host
		}
	}
	if b.n.cfg.Kafka.AdvertisedHost != "" {
		host = b.n.cfg.Kafka.AdvertisedHost
	}
	if b.n.cfg.Kafka.AdvertisedPort != 0 {
		port = int(b.n.cfg.Kafka.AdvertisedPort)
	}
	b.lookAtSpace()
	broker := &catalog.Broker{
		ID: b.n.id.box, Incarnation: b.incarnation, Memory: b.n.cfg.Limits.Memory, Started: b.n.deps.Clock.Now().Wall,
		CleanStop: b.cleanStop(), Rack: b.catalog.Current().Settings.Text("broker.rack"),
		Endpoints: []catalog.Endpoint{{Listener: listenerName, Security: "PLAINTEXT", Host: host, Port: int32(port)}},
		LogDirs:   b.logDirs(), UsedTenths: int(b.usedTenths.Load()), Offline: b.offlineNow(),
	}
	b.enroll(broker.Registration(), func(err error) {
		if err == nil || errors.Is(err, catalog.ErrClosed) {
			return
		}
		b.n.deps.Observer.Log.Warn("this broker is not registered yet, and tries again", "error", err)
		time.AfterFunc(registerAgain, func() {
			if b.brokerEpoch.Load() == 0 && !b.stopping.Load() { // else it was written after all
				b.register()
			}
		})
	})
}

// goodClock says whether the wall clock may remove records: the operator vouches for it, the kernel says that it is
// synchronised, or it is a hardware clock's that agrees with the day of this binary and was not set back since.
func (b *broker) goodClock(now clock.Now) bool {
	return b.n.cfg.ClockTrusted || b.n.synchronised() || now.Wall.After(builtAt)
}

func (b *broker) settings() kafkaserver.Settings {
	s := b.catalog.Current().Settings
	return kafkaserver.Settings{
		AutoCreateTopics: s.Bool("auto.create.topics.enable"),
		ConnectionsIdle:  s.Milliseconds("connections.max.idle.ms"),
		FetchMaxBytes:    int(s.Int("fetch.max.bytes")),
		RackAware:        s.Text("replica.selector.class") == settings.RackAwareSelector,
	}
}

func (b *broker) sessionID() int32 {
	var v [4]byte
	_, _ = rand.Read(v[:]) // never fails
	return int32(binary.BigEndian.Uint32(v[:])%math.MaxInt32) + 1
}
