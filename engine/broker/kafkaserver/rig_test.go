package kafkaserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/topics"
	"cairn/engine/broker/wire"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rig is a server on real replicas over a memory file system, with a catalog that the test writes.
type rig struct {
	*Server
	t       testing.TB
	catalog *catalog.Catalog
	address string

	dir    *seglog.Dir
	shards *replica.Shards
	syncer *syncer.Syncer
	zxid   int64

	mu       sync.Mutex // protects the fields below
	replicas map[seglog.TopicPartition]*replica.Replica
	settings Settings
	created  []string // asked for by AutoCreate
	refuse   error    // what AutoCreate answers
	ids      atomic.Int64
	session  atomic.Int32
}

const (
	rigBroker = 1
	rigEpoch  = 10 // broker epoch: the zxid of the registration
)

type rigOption func(*rigConfig)

type rigConfig struct {
	fs       vfs.FS
	path     string
	limits   limits.Kafka
	settings Settings
	config   Config
	deps     Deps // what is set here replaces the rig's own
	log      *slog.Logger
}

func withLimits(f func(*limits.Kafka)) rigOption { return func(c *rigConfig) { f(&c.limits) } }
func withSettings(f func(*Settings)) rigOption   { return func(c *rigConfig) { f(&c.settings) } }
func withListener(l ListenerConfig) rigOption {
	return func(c *rigConfig) { c.config.Listeners = []ListenerConfig{l} }
}
func onDisk(path string) rigOption { return func(c *rigConfig) { c.fs, c.path = vfs.OS(), path } }

func newRig(t testing.TB, options ...rigOption) *rig {
	t.Helper()
	cfg := rigConfig{
		fs: vfs.NewMem(), path: "/data/topics", limits: limits.Derive(1 << 30).Kafka,
		settings: Settings{AutoCreateTopics: true, ConnectionsIdle: 10 * time.Minute, FetchMaxBytes: 55 << 20},
		config:   Config{BrokerID: rigBroker, Listeners: []ListenerConfig{{Name: "PLAINTEXT", Address: "127.0.0.1:0"}}},
	}
	for _, o := range options {
		o(&cfg)
	}
	cfg.config.Limits = cfg.limits
	r := &rig{t: t, replicas: map[seglog.TopicPartition]*replica.Replica{}, settings: cfg.settings}
	clk := clock.System()
	rt := mailbox.NewThreads(clk)
	observer := observe.Discard()
	if cfg.log != nil {
		observer = observe.New(cfg.log)
	}
	r.syncer = syncer.New(rt, syncer.Config{Name: "test"})
	r.shards = replica.NewShards(replica.ShardsConfig{Count: 2, QueueMax: 4096, StageBytesMax: 1 << 20, WaitersMax: 1000},
		replica.Deps{Runtime: rt, Observer: observer, Moved: func() {}})
	var err error
	r.dir, err = seglog.OpenDir(seglog.DirConfig{Path: cfg.path, ClusterID: "test", NodeID: rigBroker, Limits: limits.Derive(1 << 30).Storage},
		seglog.Deps{FS: cfg.fs, Syncer: r.syncer, Random: rand.Reader, Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	r.catalog = catalog.New(catalog.Base{BrokerID: rigBroker}, func(p catalog.Problem) { t.Errorf("catalog: %s: %v", p.Path, p.Err) })
	r.apply(catalog.Batch{Reset: true, Changes: r.skeleton()})
	deps := Deps{
		Clock: clk, Observer: observer, Listen: net.Listen, Catalog: r.catalog, Replicas: LocalReplicas(r),
		ProducerIDs: r, AutoCreator: r, LogDirs: r,
		Settings:  func() Settings { r.mu.Lock(); defer r.mu.Unlock(); return r.settings },
		SessionID: func() int32 { return r.session.Add(1) },
	}
	if cfg.deps.Replicas != nil {
		deps.Replicas = cfg.deps.Replicas
	}
	if cfg.deps.Listen != nil {
		deps.Listen = cfg.deps.Listen
	}
	deps.Groups, deps.GoodClock, deps.Serving = cfg.deps.Groups, cfg.deps.GoodClock, cfg.deps.Serving
	if cfg.deps.ProducerIDs != nil {
		deps.ProducerIDs = cfg.deps.ProducerIDs
	}
	if r.Server, err = New(cfg.config, deps); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.address = r.Address(cfg.config.Listeners[0].Name).String()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	r.Stop(ctx)
	if used, _ := r.budget.load(); used != 0 {
		r.t.Errorf("%d bytes of requests are still counted after the end", used)
	}
	for _, rep := range r.replicas {
		done := make(chan struct{})
		rep.Close(false, func(error) { close(done) })
		<-done
	}
	r.shards.Close()
	_ = r.dir.Close()
	r.syncer.Close()
}

// The fakes.

func (r *rig) Lookup(topic string, p int32) (*replica.Replica, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rep := r.replicas[seglog.TopicPartition{Topic: topic, Partition: p}]; rep != nil {
		return rep, nil
	}
	return nil, topics.ErrUnknown
}

func (r *rig) Next(done func(int64, error)) { done(r.ids.Add(1)+4000, nil) }

func (r *rig) AutoCreate(topic string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.created = append(r.created, topic)
	return r.refuse
}

func (r *rig) Describe() []LogDir {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := LogDir{Path: "/data/topics", TotalBytes: 1000, FreeBytes: 400}
	for tp, rep := range r.replicas {
		d.Replicas = append(d.Replicas, LogDirReplica{Topic: tp.Topic, Partition: tp.Partition, Bytes: rep.View().Log.Size()})
	}
	return []LogDir{d, {Path: "/broken", Err: seglog.ErrFailed, TotalBytes: -1, FreeBytes: -1}}
}

// The catalog.

func (r *rig) apply(b catalog.Batch) {
	r.zxid++
	b.Zxid = r.zxid
	r.catalog.Apply(b)
}

func (r *rig) skeleton() []catalog.Change {
	var list []catalog.Change
	for _, p := range catalog.SkeletonPaths() {
		list = append(list, catalog.Change{Kind: catalog.Created, Path: p})
	}
	broker := &catalog.Broker{ID: rigBroker, Epoch: rigEpoch, Incarnation: catalog.UUID{1, 2},
		Endpoints: []catalog.Endpoint{{Listener: "PLAINTEXT", Security: "PLAINTEXT", Host: "", Port: 9092}}, Rack: "shelf"}
	return append(list,
		catalog.Change{Kind: catalog.Created, Path: catalog.ClusterIDPath, Data: catalog.EncodeClusterID("rig-cluster")},
		catalog.Change{Kind: catalog.Created, Path: catalog.BrokerPath(rigBroker), Data: catalog.EncodeBroker(broker), Czxid: rigEpoch})
}

// topic makes a topic whose partitions this box leads in epoch 1. Settings are given as name, value, ….
func (r *rig) topic(name string, partitions int, config ...string) catalog.UUID {
	id := r.declare(name, partitions, rigBroker, config...)
	t := r.catalog.Current().Topic(name)
	for p := range int32(partitions) {
		tp := seglog.TopicPartition{Topic: name, Partition: p}
		log, err := r.dir.Create(tp, seglog.ID(id), seglog.DefaultConfig())
		if err != nil {
			r.t.Fatal(err)
		}
		set := t.Settings
		rep, err := r.shards.Open(log, 0, &replica.Config{
			Log: seglog.DefaultConfig(), Durability: partition.Flushed, InSyncMin: 1, BatchBytesMax: int(set.MaxMessageBytes),
			Compact: set.Compact, LogAppendTime: set.TimestampType == 1, ProducersMax: 1000,
		})
		if err != nil {
			r.t.Fatal(err)
		}
		led := make(chan error, 1)
		rep.Lead(1, partition.Membership{InSync: []int32{1}}, func(_ int32, err error) { led <- err })
		if err := <-led; err != nil {
			r.t.Fatal(err)
		}
		r.wait("leadership", func() bool { return rep.View().Leader })
		r.mu.Lock()
		r.replicas[tp] = rep
		r.mu.Unlock()
	}
	return id
}

// declare writes a topic into the catalog without opening it here.
func (r *rig) declare(name string, partitions int, leader int32, config ...string) catalog.UUID {
	id, err := catalog.NewUUID(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	a := catalog.TopicAssignment{ID: id}
	for range partitions {
		a.Partitions = append(a.Partitions, []int32{leader})
	}
	changes := []catalog.Change{}
	if len(config) > 0 {
		m := map[string]string{}
		for i := 0; i+1 < len(config); i += 2 {
			m[config[i]] = config[i+1]
		}
		changes = append(changes, catalog.Change{Kind: catalog.Created, Path: catalog.TopicConfigPath(name), Data: catalog.EncodeConfig(m)})
	}
	changes = append(changes,
		catalog.Change{Kind: catalog.Created, Path: catalog.TopicPath(name), Data: catalog.EncodeTopic(a)},
		catalog.Change{Kind: catalog.Created, Path: catalog.PartitionsPath(name)})
	for p := range int32(partitions) {
		changes = append(changes, catalog.Change{Kind: catalog.Created, Path: catalog.PartitionPath(name, p)},
			catalog.Change{Kind: catalog.Created, Path: catalog.StatePath(name, p), Data: catalog.EncodeState(catalog.PartitionState{
				Leader: leader, LeaderEpoch: 1, LeaderBrokerEpoch: rigEpoch, ISR: []int32{leader}, ControllerEpoch: 1})})
	}
	r.apply(catalog.Batch{Changes: changes})
	return id
}

// broker registers another broker.
func (r *rig) broker(id int32, host string, port int32) {
	b := &catalog.Broker{ID: id, Incarnation: catalog.UUID{byte(id)},
		Endpoints: []catalog.Endpoint{{Listener: "PLAINTEXT", Security: "PLAINTEXT", Host: host, Port: port}}}
	r.apply(catalog.Batch{Changes: []catalog.Change{{Kind: catalog.Created, Path: catalog.BrokerPath(id), Data: catalog.EncodeBroker(b), Czxid: rigEpoch}}})
}

func (r *rig) replica(topic string, p int32) *replica.Replica {
	rep, err := r.Lookup(topic, p)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// wait polls for a state.
func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	wait(r.t, what, ok)
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

// client is a raw connection that speaks frames.
type client struct {
	t    testing.TB
	conn net.Conn
	next int32
}

func (r *rig) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t: r.t, conn: nc}
}

// frame encodes a request.
func (c *client) frame(version int16, req kmsg.Request) []byte {
	req.SetVersion(version)
	c.next++
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("rig")).AppendRequest(nil, req, c.next)
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) send(version int16, req kmsg.Request) { c.t.Helper(); c.write(c.frame(version, req)) }

// readFrame reads one answer: correlation id and the rest.
func (c *client) readFrame() (int32, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:], nil
}

// receive reads the answer to req and decodes it.
func receive[R kmsg.Response](c *client, version int16, resp R) R {
	c.t.Helper()
	_, b, err := c.readFrame()
	if err != nil {
		c.t.Fatalf("read answer to %s v%d: %v", kmsg.NameForKey(resp.Key()), version, err)
	}
	resp.SetVersion(version)
	if resp.IsFlexible() && resp.Key() != wire.KeyApiVersions {
		if b[0] != 0 {
			c.t.Fatalf("tags in the response header: %x", b[0])
		}
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		c.t.Fatalf("decode answer to %s v%d: %v", kmsg.NameForKey(resp.Key()), version, err)
	}
	if again := resp.AppendTo(nil); len(again) != len(b) {
		c.t.Fatalf("%s v%d: answer of %d bytes, of which kmsg makes %d", kmsg.NameForKey(resp.Key()), version, len(b), len(again))
	}
	return resp
}

// ask sends a request and reads its answer.
func ask[R kmsg.Response](c *client, version int16, req kmsg.Request, resp R) R {
	c.t.Helper()
	c.send(version, req)
	return receive(c, version, resp)
}

// closedByServer reports whether the server closes the connection without another answer.
func (c *client) closedByServer() bool {
	c.t.Helper()
	_, b, err := c.readFrame()
	if err == nil {
		c.t.Errorf("answered with %d bytes", len(b))
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout() // reset: the server closed with bytes unread
}

// Batches.

func batchOf(options func(*batch.Options), values ...string) []byte {
	o := batch.NewOptions()
	if options != nil {
		options(&o)
	}
	b := batch.NewBuilder(o)
	for i, v := range values {
		b.Append(1_700_000_000_000+int64(i), []byte(fmt.Sprint("k", i)), []byte(v))
	}
	out, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return out
}

func produceRequest(topic string, p int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = p, records
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	return req
}

// produce appends a batch and fails the test if it was refused.
func (c *client) produce(topic string, p int32, values ...string) int64 {
	c.t.Helper()
	resp := ask(c, 9, produceRequest(topic, p, -1, batchOf(nil, values...)), kmsg.NewPtrProduceResponse())
	out := resp.Topics[0].Partitions[0]
	if out.ErrorCode != 0 {
		c.t.Fatalf("produce to %s-%d: code %d", topic, p, out.ErrorCode)
	}
	return out.BaseOffset
}

func fetchRequest(topic string, offset int64, partitions ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 0, 1, 1<<20
	req.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes, part.CurrentLeaderEpoch = p, offset, 1<<20, -1
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// valuesOf reads the values in fetched bytes. A cut batch at the end is skipped, as clients do.
func valuesOf(t testing.TB, b []byte) []string {
	t.Helper()
	var out []string
	var o batch.Opener
	s := batch.Scan(b)
	for s.Next() {
		if err := batch.VerifyCRC(s.Bytes()); err != nil {
			t.Fatal(err)
		}
		records, err := o.Records(s.Header(), s.Bytes(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Walk(s.Header(), records, func(r *batch.Record) error {
			out = append(out, string(r.Value))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, x := range list {
		out = append(out, name(x))
	}
	slices.Sort(out)
	return out
}
