package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/engine/ensemble/carry"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// ask calls one of the AdminServer's commands.
func ask(t *testing.T, n *Node, method, command string, body io.Reader) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(context30(t), method, "http://"+n.Addresses()["http"].String()+"/commands/"+command, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "ip")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, b
}

func zkClient(t *testing.T, n *Node) *zk.Conn {
	t.Helper()
	c, _, err := zk.Connect([]string{n.Addresses()["zookeeper"].String()}, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustCreate(t *testing.T, c *zk.Conn, path, data string, flags int32) {
	t.Helper()
	if _, err := c.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
}

// spoolIsEmpty: nothing stays behind.
func spoolIsEmpty(t *testing.T, n *Node) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(n.cfg.Data, spoolDir))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// A box serves Kafka while its users' znodes are backed up, lost and brought back, in both formats; the broker's own are
// what they were.
func TestBackupAndRestoreBesideKafka(t *testing.T) {
	n := open(t, testConfig(t.TempDir()))
	defer closeNode(t, n)
	ctx := context30(t)
	producer := kafkaClient(t, n)
	produce := func(value string) {
		t.Helper()
		if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	produce("before")
	c := zkClient(t, n)
	mustCreate(t, c, "/app", "one", 0)
	mustCreate(t, c, "/app/here", "", zk.FlagEphemeral)
	state := "/cairn/kafka/brokers/topics/t/partitions/0/state"
	_, before, err := c.Get(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"cairn", "zookeeper"} {
		code, tree := ask(t, n, "GET", "snapshot?format="+format, nil)
		if code != 200 {
			t.Fatalf("%d %s", code, tree)
		}
		for _, secret := range []string{"kafka", "secret", "here"} {
			if bytes.Contains(tree, []byte(secret)) {
				t.Errorf("the backup holds %q", secret)
			}
		}
		if _, err := c.Set("/app", []byte("two"), -1); err != nil {
			t.Fatal(err)
		}
		mustCreate(t, c, "/later", "", 0)
		_, last, err := c.Get("/later")
		if err != nil {
			t.Fatal(err)
		}
		code, said := ask(t, n, "POST", "restore", bytes.NewReader(tree))
		m := decode(t, said)
		if code != 200 || m["error"] != nil || m["last_zxid"].(float64) < float64(last.Czxid+1<<32) {
			t.Fatalf("%d %v after zxid %x", code, m, last.Czxid)
		}
		spoolIsEmpty(t, n)
		c = zkClient(t, n) // the other one's session has ended
		if data, stat, err := c.Get("/app"); err != nil || string(data) != "one" || stat.Version != 0 {
			t.Errorf("%s: %q %+v %v", format, data, stat, err)
		}
		for _, path := range []string{"/later", "/app/here"} {
			if ok, _, err := c.Exists(path); ok || err != nil {
				t.Errorf("%s: %s is there, %v", format, path, err)
			}
		}
		if _, now, err := c.Get(state); err != nil || *now != *before {
			t.Errorf("%s: the broker's znode: %+v %v, was %+v", format, now, err, before)
		}
		produce("behind " + format)
	}
}

// What cannot be restored changes nothing, and the answer says why.
func TestRestoreRefusals(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Kafka = nil
	cfg.Limits.ZooKeeper.TreeBytesMax = 1 << 20
	n := open(t, cfg)
	defer closeNode(t, n)
	c := zkClient(t, n)
	mustCreate(t, c, "/app", "one", 0)
	_, tree := ask(t, n, "GET", "snapshot?format=cairn", nil)
	large := znode.NewBackup(7, 0)
	for _, node := range []znode.Node{{Path: "/", Kind: znode.Persistent}, {Path: "/x", Kind: znode.Persistent, Data: make([]byte, 1200<<10)}} {
		if err := large.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	var beyond bytes.Buffer
	if err := carry.Write(&beyond, large); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(tree)
	flipped[len(flipped)/2] ^= 1
	for name, x := range map[string]struct {
		body []byte
		code int
	}{
		"nothing": {nil, 400}, "text": {[]byte("hello"), 400}, "cut short": {tree[:len(tree)-3], 400}, "a wrong bit": {flipped, 400},
		"beyond the budget": {beyond.Bytes(), 413}, "beyond all bounds": {make([]byte, 2<<20+1), 413},
	} {
		code, said := ask(t, n, "POST", "restore", bytes.NewReader(x.body))
		if m := decode(t, said); code != x.code || m["error"] == nil || m["error"] == "" {
			t.Errorf("%s: %d %v, want %d", name, code, m, x.code)
		}
		spoolIsEmpty(t, n)
	}
	if data, _, err := c.Get("/app"); err != nil || string(data) != "one" {
		t.Errorf("%q, %v", data, err)
	}
	// One of each at a time.
	end, err := n.carrier.begin("restore")
	if err != nil {
		t.Fatal(err)
	}
	if code, said := ask(t, n, "POST", "restore", bytes.NewReader(tree)); code != 429 {
		t.Errorf("%d %s", code, said)
	}
	if code, _ := ask(t, n, "GET", "snapshot", nil); code != 200 {
		t.Errorf("a backup beside a restore: %d", code)
	}
	end()
	if code, said := ask(t, n, "POST", "restore", bytes.NewReader(tree)); code != 200 {
		t.Errorf("%d %s", code, said)
	}
}

// A backup goes into the directory of a box that does not run, if nobody uses its tree yet, and the box starts with it.
func TestRestoreOffline(t *testing.T) {
	b := znode.NewBackup(0x500000009, 0)
	for _, node := range []znode.Node{
		{Path: "/", Kind: znode.Persistent}, {Path: "/app", Kind: znode.Persistent, Data: []byte("old"), Czxid: 0x500000003, Mzxid: 0x500000009, Version: 4},
	} {
		if err := b.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig(t.TempDir())
	zxid, err := RestoreOffline(cfg, testDeps(), b)
	if err != nil || zxid != 0x600000009 {
		t.Fatalf("%#x %v", zxid, err)
	}
	if _, err := RestoreOffline(cfg, testDeps(), b); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a tree that is used: %v", err)
	}
	n := open(t, cfg)
	spoolIsEmpty(t, n)
	if data, stat, err := zkClient(t, n).Get("/app"); err != nil || string(data) != "old" || stat.Version != 4 || stat.Czxid != 0x500000003 {
		t.Errorf("%q %+v %v", data, stat, err)
	}
	if _, err := RestoreOffline(cfg, testDeps(), b); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("while the box runs: %v", err)
	}
	closeNode(t, n)
	// A box that has only registered its broker has no tree of users.
	other := testConfig(t.TempDir())
	closeNode(t, open(t, other))
	if _, err := RestoreOffline(other, testDeps(), b); err != nil {
		t.Errorf("a box that was started once: %v", err)
	}
}

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v in %.200s", err, b)
	}
	return m
}
