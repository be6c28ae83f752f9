package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/broker/catalog"
	"cairn/engine/ensemble"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

const anyPort = "127.0.0.1:0"

func testConfig(dir string) Config {
	return Config{
		Version: "test", Data: dir, HTTP: anyPort, CPUs: 2, Limits: limits.Derive(256 << 20),
		Kafka:     &Kafka{Listen: anyPort, Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "2"}},
		ZooKeeper: &ZooKeeper{Listen: anyPort},
	}
}

func testDeps() Deps {
	c := clock.System()
	return Deps{Runtime: mailbox.NewThreads(c), Clock: c, FS: vfs.OS(), Observer: observe.Discard(), Random: rand.Reader, Listen: net.Listen, Dial: new(net.Dialer).DialContext}
}

func open(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Open(cfg, testDeps())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("not ready after 30 s")
	}
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func kafkaClient(t *testing.T, n *Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(n.Addresses()["kafka"].String()), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func context30(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRealClientsAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, testConfig(dir))
	ctx := context30(t)
	producer := kafkaClient(t, n)
	for i := range 100 {
		if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte("k"), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	consume(t, n, "g", 0, 60)
	conn := zookeeperClient(t, n)
	if _, err := conn.Create("/a", []byte("x"), 0, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Create("/cairn/mine", nil, 0, zk.WorldACL(zk.PermAll)); !errors.Is(err, zk.ErrNoAuth) {
		t.Fatalf("write below /cairn: %v", err)
	}
	conn.Close()
	producer.Close()
	closeNode(t, n)

	n = open(t, testConfig(dir))
	consume(t, n, "g", 60, 40)
	conn = zookeeperClient(t, n)
	if data, _, err := conn.Get("/a"); err != nil || string(data) != "x" {
		t.Fatalf("%q %v", data, err)
	}
	conn.Close()
	adm := kadm.NewClient(kafkaClient(t, n))
	if _, err := adm.DeleteTopic(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil || topics.Has("t") {
		t.Fatalf("%v %v", topics.Names(), err)
	}
	closeNode(t, n)
}

// consume reads count records as a group, the first of which must hold from, and commits them.
func consume(t *testing.T, n *Node, group string, from, count int) {
	t.Helper()
	ctx := context30(t)
	c := kafkaClient(t, n, kgo.ConsumerGroup(group), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	for got := 0; got < count; {
		fetches := c.PollRecords(ctx, count-got)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", got, count, err)
		}
		for _, r := range fetches.Records() {
			if want := fmt.Sprint(from + got); string(r.Value) != want {
				t.Fatalf("read %s, want %s", r.Value, want)
			}
			got++
		}
	}
	if err := c.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
}

func zookeeperClient(t *testing.T, n *Node) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{n.Addresses()["zookeeper"].String()}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.State == zk.StateHasSession {
			break
		}
	}
	return conn
}

func TestHTTPSections(t *testing.T) {
	n := open(t, testConfig(t.TempDir()))
	defer closeNode(t, n)
	for path, want := range map[string]string{
		"/readyz": `"ok":true`, "/healthz": `"ok":true`, "/metrics": "cairn_kafka_requests_total", "/commands/ruok": "ruok", "/": "/metrics",
	} {
		resp, err := http.Get("http://" + n.Addresses()["http"].String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v, want %q in it", path, resp.StatusCode, err, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestStartsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	n := open(t, testConfig(dir))
	if _, err := Open(testConfig(dir), testDeps()); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second start on the same data: %v", err)
	}
	for flag, change := range map[string]func(*Config){
		"kafka-listen":     func(c *Config) { c.Kafka.Listen = n.Addresses()["kafka"].String() },
		"zookeeper-listen": func(c *Config) { c.ZooKeeper.Listen = n.Addresses()["zookeeper"].String() },
		"http-listen":      func(c *Config) { c.HTTP = n.Addresses()["http"].String() },
	} {
		cfg := testConfig(t.TempDir())
		change(&cfg)
		var listen *ListenError
		if _, err := Open(cfg, testDeps()); !errors.As(err, &listen) || listen.Flag != flag || !strings.Contains(err.Error(), "--"+flag) {
			t.Errorf("%s in use: %v", flag, err)
		}
	}
	closeNode(t, n)
	if err := os.WriteFile(filepath.Join(dir, boxFile), []byte("format = 2\nid = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testConfig(dir), testDeps()); !errors.Is(err, ErrNewer) {
		t.Errorf("data of a newer version: %v", err)
	}
	for _, text := range []string{"", "format = 1\n", "format = x\nid = 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, boxFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(testConfig(dir), testDeps()); err == nil {
			t.Errorf("damaged box.toml %q was accepted", text)
		}
	}
	cfg := testConfig(t.TempDir())
	cfg.Kafka.Settings["log.retention.hour"] = "1"
	if _, err := Open(cfg, testDeps()); err == nil || !strings.Contains(err.Error(), "log.retention.hour") {
		t.Errorf("unknown kafka setting: %v", err)
	}
}

// A box that is stopped at any moment of its start leaves nothing behind, and starts again.
func TestStopsAtEveryMomentOfTheStart(t *testing.T) {
	dir := t.TempDir()
	closeNode(t, open(t, testConfig(dir)))
	before := runtime.NumGoroutine()
	for i := range 12 {
		n, err := Open(testConfig(dir), testDeps())
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-n.Ready():
		case <-time.After(time.Duration(i) * time.Millisecond): // the moment is the test's subject
		}
		closeNode(t, n)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
	closeNode(t, open(t, testConfig(dir)))
}

// A write whose outcome is unknown is never reported as one that was not applied, whatever else ended with it.
func TestUncertainStaysUncertain(t *testing.T) {
	for range 100 {
		err := treeError(errors.Join(ensemble.ErrUncertain, ensemble.ErrClosed))
		if !errors.Is(err, catalog.ErrUncertain) || errors.Is(err, catalog.ErrClosed) {
			t.Fatal(err)
		}
	}
}

// What passes by itself is not reported as a tree that takes no more, and the other way round.
func TestBusyIsNotFull(t *testing.T) {
	for from, want := range map[error]error{
		ensemble.ErrFull: catalog.ErrBusy, ensemble.ErrTreeFull: catalog.ErrFull, ensemble.ErrTooLarge: catalog.ErrFull,
	} {
		err := treeError(fmt.Errorf("propose: %w", from))
		if !errors.Is(err, want) || errors.Is(err, catalog.ErrBusy) == errors.Is(err, catalog.ErrFull) {
			t.Errorf("%v became %v, want %v", from, err, want)
		}
	}
}

func TestTheDataDirectoryIsDurable(t *testing.T) {
	fs := vfs.NewMem()
	if err := makeDirectory(fs, "/srv/cairn/data"); err != nil {
		t.Fatal(err)
	}
	fs.PowerOff()
	if _, err := fs.CrashStrict().Stat("/srv/cairn/data"); err != nil {
		t.Fatal(err)
	}
}

// Who is told that a multi was applied finds it in the catalog (catalog.Tree.Multi).
func TestAMultiIsInTheCatalogWhenItIsDone(t *testing.T) {
	n := open(t, testConfig(t.TempDir()))
	defer closeNode(t, n)
	for i := range 10 {
		name, shown := fmt.Sprint("t", i), make(chan error, 1)
		op := catalog.Op{Kind: catalog.OpCreate, Path: catalog.TopicConfigPath(name), Data: catalog.EncodeConfig(nil)}
		n.broker.tree.Multi([]catalog.Op{op}, func(_ []catalog.OpResult, err error) {
			if err == nil && !n.broker.catalog.Current().HasTopicConfig(name) {
				err = errors.New("done, and not in the catalog")
			}
			shown <- err
		})
		if err := <-shown; err != nil {
			t.Fatal(err)
		}
	}
}
