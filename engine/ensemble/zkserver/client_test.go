package zkserver

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func (b *box) zk(t testing.TB) *zk.Conn {
	t.Helper()
	c, _, err := zk.Connect([]string{b.address}, 5*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestGoZookeeper does a session of each operation with a client that others wrote.
func TestGoZookeeper(t *testing.T) {
	b := start(t, nil)
	c := b.zk(t)
	acl := zk.WorldACL(zk.PermAll)
	if path, err := c.Create("/go", []byte("1"), 0, acl); err != nil || path != "/go" {
		t.Fatal(path, err)
	}
	if path, err := c.Create("/go/s-", nil, zk.FlagSequence|zk.FlagEphemeral, acl); err != nil || path != "/go/s-0000000000" {
		t.Fatal(path, err)
	}
	if path, err := c.CreateContainer("/go/c", nil, zk.FlagContainer, acl); err != nil || path != "/go/c" {
		t.Fatal(path, err)
	}
	if path, err := c.CreateTTL("/go/t", nil, zk.FlagTTL, acl, time.Minute); err != nil || path != "/go/t" {
		t.Fatal(path, err)
	}
	data, stat, events, err := c.GetW("/go")
	if err != nil || string(data) != "1" || stat.NumChildren != 3 {
		t.Fatalf("%q %+v %v", data, stat, err)
	}
	if stat, err = c.Set("/go", []byte("2"), 0); err != nil || stat.Version != 1 {
		t.Fatalf("%+v %v", stat, err)
	}
	if e := <-events; e.Type != zk.EventNodeDataChanged || e.Path != "/go" {
		t.Fatalf("%+v", e)
	}
	if _, err = c.Set("/go", nil, 0); !errors.Is(err, zk.ErrBadVersion) {
		t.Fatal(err)
	}
	results, err := c.Multi(&zk.CreateRequest{Path: "/go/m", Acl: acl}, &zk.SetDataRequest{Path: "/go/m", Data: []byte("x")}, &zk.CheckVersionRequest{Path: "/go/m", Version: 1})
	if err != nil || len(results) != 3 || results[1].Stat.Version != 1 {
		t.Fatalf("%+v %v", results, err)
	}
	if _, err = c.Multi(&zk.DeleteRequest{Path: "/go/m", Version: -1}, &zk.DeleteRequest{Path: "/go/none", Version: -1}); !errors.Is(err, zk.ErrNoNode) {
		t.Fatal(err)
	}
	if path, err := c.Sync("/go"); err != nil || path != "/go" {
		t.Fatal(path, err)
	}
	children, _, err := c.Children("/go")
	if err != nil || len(children) != 4 {
		t.Fatal(children, err)
	}
	if err := c.AddAuth("digest", []byte("super:test")); err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.GetACL("/go"); err != nil || len(got) != 1 || got[0] != acl[0] {
		t.Fatal(got, err)
	}
}

func TestGoZookeeperLocks(t *testing.T) {
	b := start(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	holders, most, total := 0, 0, 0
	for range 4 {
		c := b.zk(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 10 {
				l := zk.NewLock(c, "/lock", zk.WorldACL(zk.PermAll))
				if err := l.Lock(); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				holders++
				most, total = max(most, holders), total+1
				mu.Unlock()
				mu.Lock()
				holders--
				mu.Unlock()
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if most != 1 || total != 40 {
		t.Fatalf("%d holders at a time, %d in all", most, total)
	}
}

func (b *box) word(t testing.TB, word string) string {
	t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite() // nc does so before it reads
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	return string(text)
}

func TestWords(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.must(1, 1, createBody("/w", nil, 1))
	c.must(2, 3, watchBody("/w", true))
	// go-zookeeper's own patterns, which its harness waits for.
	stats, ok := zk.FLWSrvr([]string{b.address}, time.Second)
	if !ok || stats[0].Mode != zk.ModeStandalone || stats[0].NodeCount != 6 {
		t.Fatalf("%+v %+v", stats[0], stats[0].Error)
	}
	if ok := zk.FLWRuok([]string{b.address}, time.Second); !ok[0] {
		t.Fatal("ruok")
	}
	if clients, _ := zk.FLWCons([]string{b.address}, time.Second); len(clients[0].Clients) != 1 {
		t.Fatalf("%+v", clients[0])
	}
	for word, want := range map[string]string{
		"srvr\n": `^Zookeeper version: 3\.9\.5-test, built on 06/15/2025 15:06 GMT\nLatency min/avg/max: \d+/[0-9.]+/\d+\nReceived: \d+\nSent: \d+\nConnections: 2\nOutstanding: 0\nZxid: 0x[0-9a-f]+\nMode: standalone\nNode count: 6\n$`,
		"stat":   `^Zookeeper version: [^\n]+\nClients:\n( /127\.0\.0\.1:\d+\[\d\]\(queued=0,recved=\d+,sent=\d+\)\n)+\nLatency`,
		"cons":   `(?m)^ /127\.0\.0\.1:\d+\[\d\]\(queued=0,recved=\d+,sent=\d+(,sid=0x[0-9a-f]+,lop=EXIS,est=\d+,to=5000,lcxid=0x2,lzxid=0x[0-9a-f]+,lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+)\)\n`,
		"dump":   `^SessionTracker dump:\nSession Sets \(1\)/\(1\):\n1 expire at [^\n]+:\n\t0x[0-9a-f]+\nephemeral nodes dump:\nSessions with Ephemerals \(1\):\n0x[0-9a-f]+:\n\t/w\nConnections dump:\nConnections Sets \(\d\)/\(2\):\n`,
		"ruok":   `^imok$`, "isro": `^rw$`, "gtmk": `^306$`, "envi": `^Environment:\nzookeeper\.version=3\.9\.5-test, built on`,
		"wchs": `^1 connections watching 1 paths\nTotal watches:1\n$`,
		"wchc": `^0x[0-9a-f]+\n\t/w\n\n$`, "wchp": `^/w\n\t0x[0-9a-f]+\n\n$`,
		"dirs": `^datadir_size: \d+\nlogdir_size: \d+\n$`, "hash": `^$`,
		"conf":             `^clientPort=0\nsecureClientPort=0\ndataDir=\ndataDirSize=0\n(?s:.*)serverId=0\n$`,
		"mntr":             `^zk_version\t3\.9\.5-test, built on [^\n]+\nzk_server_state\tstandalone\nzk_avg_latency\t[0-9.]+\n(?s:.*)\nzk_znode_count\t6\nzk_watch_count\t1\nzk_ephemerals_count\t1\n`,
		"\xff\xf4\xff\xfd": `^$`,
	} {
		eventually(t, func() bool { return b.Stats().Connections == 1 }) // the word before has left
		if got := b.word(t, word); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%q: %q does not match %s", word, got, want)
		}
	}
	for word, want := range map[string]string{"crst": "Connection stats reset.\n", "srst": "Server stats reset.\n"} {
		if got := b.word(t, word); got != want {
			t.Errorf("%s: %q", word, got)
		}
	}
	if got := b.word(t, "stmk\x00\x00\x00\x00\x00\x00\x01\x00"); got != "256" {
		t.Errorf("stmk: %q", got)
	}
	// semantics 38: what is no word is a length.
	if got := b.word(t, "GET / HTTP/1.1\r\n\r\n"); got != "" {
		t.Errorf("a web browser was answered %q", got)
	}
}

func TestWordsWhitelist(t *testing.T) {
	b := start(t, func(c *Config) { c.Admin.Words = nil })
	if got := b.word(t, "stat"); got != "stat is not executed because it is not in the whitelist.\n" {
		t.Errorf("%q", got)
	}
	if got := b.word(t, "srvr"); !strings.HasPrefix(got, "Zookeeper version: ") {
		t.Errorf("%q", got)
	}
}

func TestCommands(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	c.must(1, 1, createBody("/w", nil, 1))
	web := httptest.NewServer(b.Admin())
	defer web.Close()
	get := func(method, path string) (int, map[string]any) {
		r, err := http.NewRequest(method, web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Body.Close()
		m := map[string]any{}
		if err := json.NewDecoder(p.Body).Decode(&m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return p.StatusCode, m
	}
	for _, name := range []string{"crst", "conf", "cons", "hash", "dirs", "dump", "envi", "gtmk", "icfg", "isro", "lsnp", "mntr", "orst", "ruok",
		"srvr", "stat", "srst", "obsr", "sysp", "voting_view", "wchc", "wchp", "wchs", "zabstate"} {
		code, m := get("GET", "/commands/"+name)
		if code != 200 || m["error"] != nil || m["command"] == "" {
			t.Errorf("%s: %d %v", name, code, m)
		}
	}
	if _, m := get("GET", "/commands/leader"); m["error"] != "server is not initialized" {
		t.Errorf("%v", m)
	}
	if _, m := get("GET", "/commands/nonsense"); m["error"] != "Unknown command: nonsense" {
		t.Errorf("%v", m)
	}
	if _, m := get("GET", "/commands/monitor"); m["znode_count"] != 6.0 || m["server_state"] != "standalone" || m["command"] != "monitor" {
		t.Errorf("%v", m)
	}
	if _, m := get("GET", "/commands/connections"); len(m["connections"].([]any)) != 1 {
		t.Errorf("%v", m)
	}
	if _, m := get("GET", "/commands/stmk?traceMask=5"); m["tracemask"] != 5.0 {
		t.Errorf("%v", m)
	}
	for path, want := range map[string][2]any{"restore": {"GET", 405}, "rest": {"POST", 403}, "shed": {"POST", 403}, "snapshot": {"GET", 403}, "srvr": {"POST", 405}} {
		if code, m := get(want[0].(string), "/commands/"+path); code != want[1] || m["error"] == nil {
			t.Errorf("%v %s: %d %v", want[0], path, code, m)
		}
	}
	p, err := http.Get(web.URL + "/commands")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Body.Close()
	if text, _ := io.ReadAll(p.Body); !strings.Contains(string(text), `<a href="/commands/watch_summary">watch_summary</a>`) {
		t.Errorf("%s", text)
	}
}
