package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/configs"
	"cairn/engine/limits"
	"cairn/engine/node"
	"cairn/platform/clock"
	"cairn/platform/loopback"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

// server is a box in this process, on ports of its own, and the flags that lead to it.
type server struct {
	t    *testing.T
	data string
	at   map[string]net.Addr
}

func serveBox(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, data: t.TempDir()}
	const anyPort = "127.0.0.1:0"
	wall := clock.System()
	n, err := node.Open(
		node.Config{
			Version: "test", Data: s.data, HTTP: anyPort, CPUs: 2, Limits: limits.Derive(256 << 20),
			Kafka:     &node.Kafka{Listen: anyPort, Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "1"}},
			ZooKeeper: &node.ZooKeeper{Listen: anyPort},
		},
		node.Deps{Runtime: mailbox.NewThreads(wall), Clock: wall, FS: vfs.OS(), Observer: observe.Discard(), Random: rand.Reader, Listen: net.Listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-n.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("not ready after 30 s")
	}
	s.at = n.Addresses()
	return s
}

// result is what a command did.
type result struct {
	line      string
	code      int
	out, errs string
}

func cairn(in string, args ...string) result {
	var out, errs bytes.Buffer
	code := run(args, strings.NewReader(in), &out, &errs)
	return result{strings.Join(args, " "), code, out.String(), errs.String()}
}

// do runs a command line against the box, with in as its standard input. Words are split at spaces.
func (s *server) do(in, line string) result {
	args := strings.Fields(line)
	switch args[0] {
	case "zk":
		args = append(args, "--servers", s.at["zookeeper"].String())
	case "backup", "restore":
		args = append(args, "--http", s.at["http"].String())
	case "doctor":
		args = append(args, "--bootstrap", s.at["kafka"].String(), "--http", s.at["http"].String())
	default:
		args = append(args, "--bootstrap", s.at["kafka"].String())
	}
	r := cairn(in, args...)
	r.line = line
	return r
}

// rows parses output with --json: one object a line.
func (r result) rows(t *testing.T) []map[string]any {
	t.Helper()
	var rows []map[string]any
	for line := range strings.Lines(r.out) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %q: %v", r.line, line, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// step is one command of a story: its input, its exit code, and what its output and its errors must hold.
type step struct {
	in, line string
	code     int
	out      []string
	errs     string
}

func (s *server) tell(story []step) {
	s.t.Helper()
	for _, want := range story {
		r := s.do(want.in, want.line)
		if r.code != want.code || !strings.Contains(r.errs, want.errs) {
			s.t.Fatalf("%s: exit %d, want %d\n%s%s, want %q in it", want.line, r.code, want.code, r.out, r.errs, want.errs)
		}
		for _, part := range want.out {
			if !strings.Contains(strings.Join(strings.Fields(r.out), " "), part) {
				s.t.Fatalf("%s: %q is not in\n%s", want.line, part, r.out)
			}
		}
		if strings.Contains(want.line, "--json") {
			r.rows(s.t)
		}
	}
}

func TestTopicsRecordsAndGroups(t *testing.T) {
	s := serveBox(t)
	s.tell([]step{
		{line: "topic create t --partitions 2 --config retention.ms=1000000", out: []string{"Created topic t with 2 partitions, 1 replicas"}},
		{line: "topic create t", code: exitFailed, errs: "already exists"},
		{line: "topic create u --config retention.ms=soon", code: exitFailed, errs: "retention.ms"},
		{line: "topic create u --config retention", code: exitUsage, errs: "want setting=value"},
		{line: "topic create j --json", out: []string{`"topic":"j"`, `"partitions":1`}},
		{line: "topic list", out: []string{"TOPIC PARTITIONS REPLICAS j 1 1 t 2 1"}},
		{line: "topic list --json", out: []string{`"topic":"t"`}},
		{line: "produce t --partition 0 a b c", errs: "3 records acknowledged"},
		{in: "k=d\nk=e\n", line: "produce t --partition 0 --key-separator = --compress zstd --json", out: []string{`"acknowledged":2`}},
		{line: "produce t x --compress brotli", code: exitUsage, errs: "want none, gzip"},
		{line: "consume t --from start --max 5 --keys", out: []string{"a b c k d k e"}},
		{line: "consume t --from start --max 5 --json", out: []string{`"key":"k"`, `"key":null`, `"value":"e"`}},
		{line: "consume t --from middle", code: exitUsage, errs: "want start or end"},
		{line: "topic describe t", out: []string{"0 1 0 [1] [1] 0 5", "retention.ms 1000000 DYNAMIC_TOPIC_CONFIG yes"}},
		{line: "topic describe t --all --json", out: []string{`"partition":0`, `"setting":"min.insync.replicas"`}},
		{line: "topic describe nowhere", code: exitFailed, errs: "nowhere"},
		{line: "topic alter t --config max.message.bytes=4096 --unset retention.ms --partitions 3"},
		{line: "topic describe t", out: []string{"2 1 0 [1] [1] 0 0", "max.message.bytes 4096"}},
		{line: "topic alter t --partitions 1", code: exitFailed, errs: "add partitions to t"},
		{line: "topic alter t", code: exitUsage, errs: "nothing to change"},
		{line: "topic trim t --partition 0 --before 2 --json", out: []string{`"start":2`}},
		{line: "topic trim t --partition 0 --before 99", code: exitFailed, errs: "trim t-0"},
		{line: "consume t --from start --max 3", out: []string{"c d e"}},
		{line: "consume t --group g --from start --max 2", out: []string{"c d"}},
		{line: "group list", out: []string{"g Empty consumer"}},
		{line: "group describe g", out: []string{"Group g: Empty, 0 members, lag 1", "g t 0 4 5 1 - -"}},
		{line: "group describe g --json", out: []string{`"committed":4`}},
		{line: "group reset g --topic t --offset 3", out: []string{"g t 0 3"}},
		{line: "group reset g --topic t --to start", out: []string{"g t 0 2"}},
		{line: "group reset g --topic t --to end", out: []string{"g t 0 5"}},
		{line: "group reset g --topic t", code: exitUsage, errs: "one of --to start"},
		{line: "group reset g --topic t --to middle", code: exitUsage, errs: "want start or end"},
		{line: "group delete g"},
		{line: "group delete g", code: exitFailed, errs: "delete group g"},
		{line: "topic delete t j"},
		{line: "topic delete t", code: exitFailed, errs: "delete topic t"},
		{line: "doctor --json", out: []string{`"grade":"ok"`}},
	})
}

func TestZnodes(t *testing.T) {
	s := serveBox(t)
	s.tell([]step{
		{line: "zk create /a hello", out: []string{"/a"}},
		{line: "zk create /a", code: exitFailed, errs: "create /a: zk: node already exists"},
		{line: "zk create /b/c/d x -p --json", out: []string{`{"path":"/b/c/d"}`}},
		{line: "zk create /b/s- -s", out: []string{"/b/s-0000000001"}},
		{line: "zk get /a", out: []string{"hello"}},
		{line: "zk get /a --json", out: []string{`"data":"hello"`, `"version":0`}},
		{line: "zk set /a there --version 0", out: []string{"/a 1 0 5"}},
		{line: "zk set /a there --version 0", code: exitFailed, errs: "version"},
		{line: "zk stat /a --json", out: []string{`"path":"/a"`, `"version":1`}},
		{line: "zk stat /none", code: exitFailed, errs: "node does not exist"},
		{line: "zk ls /", out: []string{"a", "b", "cairn", "zookeeper"}},
		{line: "zk ls /b -r --json", out: []string{`{"path":"/b/c/d"}`}},
		{line: "zk rm /b", code: exitFailed, errs: "has children"},
		{line: "zk rm /b -r"},
		{line: "zk get /b", code: exitFailed, errs: "node does not exist"},
		{line: "zk get", code: exitUsage, errs: "usage: cairn zk get PATH"},
	})
}

func TestDump(t *testing.T) {
	s := serveBox(t)
	s.tell([]step{{line: "topic create d"}, {line: "produce d a b c"}})
	base := filepath.Join(s.data, "topics", "d-0", "00000000000000000000")
	r := cairn("", "dump", base+".log", "--json")
	if rows := r.rows(t); r.code != exitOK || len(rows) == 0 || rows[0]["base"] != 0.0 || rows[0]["crc_ok"] != true {
		t.Fatalf("%d %s %s", r.code, r.out, r.errs)
	}
	for _, c := range []struct {
		file string
		code int
		errs string
	}{
		{base + ".index", exitOK, ""}, {base + ".timeindex", exitOK, ""}, {base + ".nothing", exitFailed, "no such file"},
		{filepath.Join(s.data, "box.toml"), exitUsage, "not that of a segment"},
	} {
		if r := cairn("", "dump", c.file); r.code != c.code || !strings.Contains(r.errs, c.errs) {
			t.Errorf("%s: exit %d %s", c.file, r.code, r.errs)
		}
	}
}

func TestExitCodes(t *testing.T) {
	nobody, err := loopback.Address()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string
		code int
		errs string
	}{
		{"version", exitOK, ""},
		{"version --json", exitOK, ""},
		{"--version", exitOK, ""},
		{"", exitOK, ""},
		{"frobnicate", exitUsage, `unknown command "frobnicate"`},
		{"topic remove", exitUsage, `unknown command "remove"`},
		{"topic create", exitUsage, "usage: cairn topic create"},
		{"topic list extra", exitUsage, "usage: cairn topic list"},
		{"topic list --jsn", exitUsage, "--help"},
		{"start --roles kafak", exitUsage, `did you mean "kafka"?`},
		{"start --config /nowhere/cairn.toml", exitUsage, "/nowhere/cairn.toml"},
		{"topic list --bootstrap " + nobody, exitUnready, "no Kafka answers at " + nobody},
		{"doctor --http " + nobody + " --bootstrap " + nobody, exitFailed, "problems found"},
	} {
		r := cairn("", strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.errs, c.errs) {
			t.Errorf("cairn %s: exit %d, want %d\n%s", c.line, r.code, c.code, r.errs)
		}
		if c.line == "version --json" {
			if rows := r.rows(t); len(rows) != 1 || rows[0]["version"] != version {
				t.Errorf("%v", rows)
			}
		}
	}
}

// said is what a command writes while it runs.
type said struct {
	mu   sync.Mutex // protects text
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// A box greets, serves, and ends cleanly when it is asked to; a second one on its data is refused.
func TestStart(t *testing.T) {
	cfg := configs.Defaults()
	for name, value := range map[string]string{
		"data": t.TempDir(), "kafka-listen": "127.0.0.1:0", "zookeeper-listen": "127.0.0.1:0", "http-listen": "127.0.0.1:0", "memory": "256MiB",
	} {
		if err := cfg.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second finds what the first left
		ctx, stop := context.WithCancelCause(context.Background())
		out, logs := &said{}, &said{}
		ended := make(chan error, 1)
		go func() { ended <- start(ctx, &cfg, out, logs) }()
		deadline := time.Now().Add(30 * time.Second)
		for !strings.Contains(out.String(), "Try:") {
			if time.Now().After(deadline) {
				t.Fatalf("no greeting: %s\n%s", out, logs)
			}
			time.Sleep(time.Millisecond)
		}
		if err := start(ctx, &cfg, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "in use by another cairn") {
			t.Errorf("a second start: %v", err)
		}
		stop(fmt.Errorf("the test is over"))
		if err := <-ended; err != nil || !strings.Contains(logs.String(), "the test is over") {
			t.Fatalf("%v\n%s", err, logs)
		}
	}
}
