package topics

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/settings"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// rig is one box's topics on a memory file system under a seeded scheduler, with a catalog that the test feeds. Most tests have one log
// directory, dir.
type rig struct {
	t       *testing.T
	fs      *vfs.Mem
	sched   *mailbox.Scheduler
	syncer  *syncer.Syncer
	dir     *seglog.Dir
	dirs    []*seglog.Dir
	shards  *replica.Shards
	catalog *catalog.Catalog
	topics  *Topics
	cfg     Config

	topicsMetrics *observe.Metrics

	zxid   int64
	epoch  int64    // of this box's registration, 0 without one
	led    []string // what Led was told
	follow []string // what Follow was told
	opened int
	// offline is what Offline was told last.
	offline map[catalog.UUID][]int32
}

const box = 1

var incarnation = catalog.UUID{0xaa, 1}

func id(n byte) catalog.UUID { return catalog.UUID{0xbb, n} }

// openBox starts a box on what is on fs. Nothing is acted on before start.
func openBox(t *testing.T, fs *vfs.Mem, seed uint64, change ...func(*Config)) *rig {
	t.Helper()
	return openDirs(t, fs, fs, seed, []string{"/data"}, change...)
}

// openDirs is a box with those log directories, which it sees by files.
func openDirs(t *testing.T, fs *vfs.Mem, files vfs.FS, seed uint64, paths []string, change ...func(*Config)) *rig {
	t.Helper()
	g := &rig{t: t, fs: fs, sched: mailbox.NewScheduler(seed, clock.NewVirtual(time.Unix(1_700_000_000, 0)))}
	g.syncer = syncer.New(g.sched, syncer.Config{Name: "d"})
	for i, p := range paths {
		dir, err := seglog.OpenDir(
			seglog.DirConfig{Path: p, ClusterID: "c", NodeID: box, Limits: limits.Derive(0).Storage, OnSweep: func() { g.topics.SweepDue() }},
			seglog.Deps{FS: files, Syncer: g.syncer, Random: rand.NewChaCha8([32]byte{byte(seed), 9, byte(i)})})
		if err != nil {
			t.Fatal(err)
		}
		g.dirs = append(g.dirs, dir)
	}
	g.dir = g.dirs[0]
	g.shards = replica.NewShards(
		replica.ShardsConfig{Count: 2, QueueMax: 1000, StageBytesMax: 1 << 16, WaitersMax: 10},
		replica.Deps{Runtime: g.sched, Moved: func() { g.topics.Moved() }, Failed: func(r *replica.Replica) { g.topics.Failed(r) }})
	g.catalog = catalog.New(catalog.Base{BrokerID: box, Static: settings.NewStatic(nil, nil)}, func(p catalog.Problem) { t.Error(p.Path, p.Err) })
	g.cfg = Config{BrokerID: box, Incarnation: incarnation, Log: seglog.DefaultConfig(), ProducersMax: 10, OpensMax: 2}
	for _, f := range change {
		f(&g.cfg)
	}
	observer := observe.Discard()
	g.topicsMetrics = observer.Metrics
	g.topics = New(g.cfg, Deps{
		Runtime: g.sched, Observer: observer, Catalog: g.catalog, Dirs: g.dirs, Shards: g.shards,
		GoodClock: func(clock.Now) bool { return true },
		Led: func(r *replica.Replica, leader bool, epoch int32) {
			g.led = append(g.led, fmt.Sprintf("%s-%d %v %d", r.TopicPartition().Topic, r.TopicPartition().Partition, leader, epoch))
		},
		Follow: func(r *replica.Replica, leader int32, inSync bool) {
			g.follow = append(g.follow, fmt.Sprintf("%s-%d %d %v", r.TopicPartition().Topic, r.TopicPartition().Partition, leader, inSync))
		},
		Offline: func(list map[catalog.UUID][]int32) { g.offline = list },
		Opened:  func() { g.opened++ },
	})
	return g
}

// started is a box that has registered and opened what the catalog gives it.
func started(t *testing.T, fs *vfs.Mem, seed uint64, changes ...catalog.Change) *rig {
	t.Helper()
	g := openBox(t, fs, seed)
	g.feed(append([]catalog.Change{g.registration(incarnation)}, changes...)...)
	g.topics.Start()
	g.until("everything is open", func() bool { return g.opened == 1 })
	return g
}

// feed applies changes as one batch.
func (g *rig) feed(changes ...catalog.Change) {
	g.zxid++
	g.catalog.Apply(catalog.Batch{Zxid: g.zxid, Changes: changes})
}

func (g *rig) registration(incarnation catalog.UUID) catalog.Change {
	g.epoch = g.zxid + 100
	b := &catalog.Broker{ID: box, Incarnation: incarnation, Offline: g.offline}
	for _, d := range g.dirs {
		b.LogDirs = append(b.LogDirs, catalog.LogDir{ID: catalog.UUID(d.ID()), Path: d.Path()})
	}
	return catalog.Change{Path: catalog.BrokerPath(box), Data: catalog.EncodeBroker(b), Czxid: g.epoch}
}

// topic is a topic of one partition on this box and its state.
func (g *rig) topic(name string, id catalog.UUID, leaderEpoch int32) []catalog.Change {
	return g.topicIn(name, id, leaderEpoch, catalog.UUID(g.dir.ID()))
}

func (g *rig) topicIn(name string, id catalog.UUID, leaderEpoch int32, dir catalog.UUID) []catalog.Change {
	return []catalog.Change{
		{Path: catalog.TopicPath(name), Data: catalog.EncodeTopic(catalog.TopicAssignment{ID: id, Partitions: [][]int32{{box}}})},
		g.state(name, leaderEpoch, dir),
	}
}

func (g *rig) state(name string, leaderEpoch int32, dir catalog.UUID) catalog.Change {
	return catalog.Change{Path: catalog.StatePath(name, 0), Data: catalog.EncodeState(catalog.PartitionState{
		Leader: box, LeaderEpoch: leaderEpoch, LeaderBrokerEpoch: g.epoch, ISR: []int32{box}, Directories: map[int32]catalog.UUID{box: dir},
	})}
}

func mark(name string, id catalog.UUID) catalog.Change {
	return catalog.Change{Path: catalog.DeleteTopicPath(name), Data: catalog.EncodeDeletion(id)}
}

func gone(name string) []catalog.Change {
	return []catalog.Change{
		{Kind: catalog.Deleted, Path: catalog.StatePath(name, 0)}, {Kind: catalog.Deleted, Path: catalog.TopicPath(name)},
		{Kind: catalog.Deleted, Path: catalog.DeleteTopicPath(name)},
	}
}

func (g *rig) until(what string, cond func() bool) {
	g.t.Helper()
	if !g.sched.RunUntil(time.Minute, cond) {
		g.t.Fatalf("not within a minute: %s\n%s", what, strings.Join(g.names(), "\n"))
	}
}

// leads waits until partition 0 of the topic of that id is led here.
func (g *rig) leads(name string, id catalog.UUID) *replica.Replica {
	g.t.Helper()
	var r *replica.Replica
	g.until(name+" is led", func() bool {
		var err error
		r, err = g.topics.Lookup(name, 0)
		return err == nil && r.TopicID() == seglog.ID(id) && r.View().Leader
	})
	return r
}

// records are a batch of n.
func (g *rig) records(n int) []byte {
	g.t.Helper()
	b := batch.NewBuilder(batch.NewOptions())
	for i := range n {
		b.Append(1_600_000_000_000, nil, fmt.Append(nil, i))
	}
	raw, err := b.Build(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

// write appends n records and waits for the acknowledgement.
func (g *rig) write(r *replica.Replica, n int) {
	g.t.Helper()
	raw, err, done := g.records(n), error(nil), false
	a := &replica.AppendRequest{Batch: raw, Acks: -1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) { err, done = a.Err, true }}
	r.Append(context.Background(), a)
	g.until("acknowledged", func() bool { return done })
	if err != nil {
		g.t.Fatal(err)
	}
}

// names are the directories of the log directory.
func (g *rig) names() []string {
	infos, err := g.fs.List("/data")
	if err != nil {
		g.t.Fatal(err)
	}
	var out []string
	for _, info := range infos {
		if info.IsDir {
			out = append(out, info.Name)
		}
	}
	return out
}

// count is how many directories of a topic there are with that ending.
func (g *rig) count(topic, suffix string) (n int) {
	for _, name := range g.names() {
		if strings.HasPrefix(name, topic+"-") && strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// close stops the box cleanly.
func (g *rig) close() {
	g.t.Helper()
	var result error
	done := false
	g.topics.stop(func(err error) { result, done = err, true })
	g.until("stopped", func() bool { return done })
	g.topics.box.Close()
	g.shards.Close()
	if result != nil {
		g.t.Fatal(result)
	}
	for _, d := range g.dirs {
		if err := d.Close(); err != nil {
			g.t.Fatal(err)
		}
	}
	g.syncer.Close()
}
