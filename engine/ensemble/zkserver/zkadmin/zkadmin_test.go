package zkadmin

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// told is a Source that says what it was told to.
type told struct {
	stats       Stats
	connections []Connection
	sessions    []Session
	watches     []Watch
	resets      string
}

func (s *told) Stats() Stats              { return s.stats }
func (s *told) Connections() []Connection { return s.connections }
func (s *told) Sessions() []Session       { return s.sessions }
func (s *told) Watches() []Watch          { return s.watches }
func (s *told) ResetStats()               { s.resets += "s" }
func (s *told) ResetConnectionStats()     { s.resets += "c" }

func (s *told) Authorize(header string, _ netip.Addr) (int, string) {
	switch header {
	case "":
		return 401, "Auth info is missing for the command"
	case "digest owner:x":
		return 0, ""
	}
	return 403, "Not authorized"
}

func example() *told {
	at := time.Unix(1_800_000_000, 0)
	return &told{
		stats: Stats{Serving: true, Mode: "leader", Voters: 3, Zxid: 0x1f, Nodes: 5, Latency: Latency{Min: 1, Max: 9, Sum: 16, Count: 3},
			ProposalSizes: Sizes{Last: 48, Min: 36, Max: 90}, ResponseSizes: NoSizes(), Digests: []Digest{{Zxid: 0x1e, Digest: 1 << 63, Version: 2}}},
		connections: []Connection{
			{Remote: netip.MustParseAddrPort("10.0.0.2:40000"), Reading: true, Writing: true, Outstanding: 2, Received: 7, Sent: 6, SessionID: 0x100,
				LastOperation: "GETD", Established: at, SessionTimeout: 4 * time.Second, LastCxid: 5, LastZxid: 0x1e, LastResponse: 12, LastLatency: 1,
				Latency: Latency{Min: 0, Max: 3, Sum: 5, Count: 2}, Expires: at},
			{Remote: netip.MustParseAddrPort("[::1]:9"), Expires: at.Add(time.Second)},
		},
		sessions: []Session{{ID: 0x100, Expires: at, Ephemerals: []string{"/a", "/b"}}, {ID: 0x200, Expires: at}},
		watches:  []Watch{{0x100, "/b"}, {0x100, "/a"}, {0x200, "/a"}, {0x100, "/a"}},
	}
}

func newAdmin(s Source, words ...string) *Admin {
	return New(Config{Version: "3.9.5-x", Built: time.Date(2026, 2, 11, 20, 18, 0, 0, time.UTC), Words: words, CommandURL: "/commands",
		TickTime: 2 * time.Second, MinSessionTimeout: 4 * time.Second, MaxSessionTimeout: 40 * time.Second, ClientPort: 2181, SecureClientPort: -1,
		Properties: map[string]string{"b": "2", "a": "1"}}, s)
}

func TestAnswers(t *testing.T) {
	a := newAdmin(example(), "*")
	for word, want := range map[string]string{
		"srvr": "Zookeeper version: 3.9.5-x, built on 02/11/2026 20:18 GMT\nLatency min/avg/max: 1/5.3333/9\nReceived: 0\nSent: 0\nConnections: 0\n" +
			"Outstanding: 0\nZxid: 0x1f\nMode: leader\nNode count: 5\nProposal sizes last/min/max: 48/36/90\n",
		"cons": " /10.0.0.2:40000[5](queued=2,recved=7,sent=6,sid=0x100,lop=GETD,est=1800000000000,to=4000,lcxid=0x5,lzxid=0x1e,lresp=12,llat=1,minlat=0,avglat=2,maxlat=3)\n" +
			" /[::1]:9[0](queued=0,recved=0,sent=0)\n\n",
		"dump": "SessionTracker dump:\nSession Sets (1)/(2):\n2 expire at Fri Jan 15 08:00:00 UTC 2027:\n\t0x100\n\t0x200\nephemeral nodes dump:\n" +
			"Sessions with Ephemerals (1):\n0x100:\n\t/a\n\t/b\nConnections dump:\nConnections Sets (2)/(2):\n1 expire at Fri Jan 15 08:00:00 UTC 2027:\n" +
			"\tip: /10.0.0.2:40000 sessionId: 0x100\n1 expire at Fri Jan 15 08:00:01 UTC 2027:\n\tip: /[::1]:9 sessionId: 0x0\n",
		"wchs": "2 connections watching 2 paths\nTotal watches:3\n",
		"wchc": "0x100\n\t/a\n\t/b\n0x200\n\t/a\n\n",
		"wchp": "/a\n\t0x100\n\t0x200\n/b\n\t0x100\n\n",
		"hash": "1e: -9223372036854775808\n",
		"isro": "rw", "ruok": "imok", "gtmk": "306",
		"conf": "clientPort=2181\nsecureClientPort=-1\ndataDir=\ndataDirSize=0\ndataLogDir=\ndataLogSize=0\ntickTime=2000\nmaxClientCnxns=0\n" +
			"minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=0\nserverId=0\n",
	} {
		if got := a.Answer(word, nil); got != want {
			t.Errorf("%s:\n%q, want\n%q", word, got, want)
		}
	}
	if got := a.Answer("mntr", nil); !strings.Contains(got, "zk_avg_latency\t5.3333\n") || !strings.Contains(got, "zk_quorum_size\t3\n") || !strings.Contains(got, "zk_learners\t2\n") {
		t.Errorf("%q", got)
	}
}

// Only what shows the number of watches counts them: srvr is answered to everybody, and there may be millions.
func TestWatchesAreCountedWhenShown(t *testing.T) {
	s := example()
	counted := 0
	s.stats.Watches = func() int { counted++; return 7 }
	a := newAdmin(s, "*")
	for word := range words {
		if word != "mntr" {
			a.Answer(word, make([]byte, 8))
		}
	}
	if counted != 0 {
		t.Errorf("counted %d times", counted)
	}
	if got := a.Answer("mntr", nil); !strings.Contains(got, "zk_watch_count\t7\n") || counted != 1 {
		t.Errorf("%q, counted %d times", got, counted)
	}
}

func TestNotServing(t *testing.T) {
	a := newAdmin(&told{}, "*")
	for word := range words {
		got := a.Answer(word, make([]byte, 8))
		switch word {
		case "ruok", "envi", "gtmk", "stmk":
			if got == "" || strings.Contains(got, notServing) {
				t.Errorf("%s: %q", word, got)
			}
		case "isro":
			if got != "null" {
				t.Errorf("%s: %q", word, got)
			}
		default:
			if strings.TrimSuffix(got, "\n") != notServing {
				t.Errorf("%s: %q", word, got)
			}
		}
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/commands/dump", nil))
	var m map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m["error"] != notServing || m["command"] != "dump" {
		t.Errorf("%s %v", w.Body, err)
	}
}

func TestWhitelistAndResets(t *testing.T) {
	s := example()
	a := newAdmin(s, "crst")
	if got := a.Answer("srst", nil); got != "srst is not executed because it is not in the whitelist.\n" || s.resets != "" {
		t.Errorf("%q %q", got, s.resets)
	}
	if a.Answer("crst", nil); s.resets != "c" {
		t.Errorf("%q", s.resets)
	}
	if a.WordArgument("stmk") != 0 || newAdmin(s, "stmk").WordArgument("stmk") != 8 {
		t.Error("stmk reads its argument only where it is answered")
	}
}

// TestOrder wants the fields of a command in ZooKeeper's order, command and error last.
func TestOrder(t *testing.T) {
	a := newAdmin(example(), "*")
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/commands/sysp", nil))
	if got, want := w.Body.String(), "{\n  \"a\": \"1\",\n  \"b\": \"2\",\n  \"command\": \"system_properties\",\n  \"error\": null\n}\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w = httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/commands/dump", nil))
	var m struct {
		Expiry     map[string][]int64  `json:"expiry_time_to_session_ids"`
		Ephemerals map[string][]string `json:"session_id_to_ephemeral_paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || len(m.Expiry["1800000000000"]) != 2 || len(m.Ephemerals["256"]) != 2 {
		t.Errorf("%s %v", w.Body, err)
	}
}

func TestWord(t *testing.T) {
	for bytes, want := range map[[4]byte]string{{'s', 't', 'a', 't'}: "stat", {0xff, 0xf4, 0xff, 0xfd}: "telnet close"} {
		if name, ok := Word(bytes); !ok || name != want {
			t.Errorf("%q %v", name, ok)
		}
	}
	if _, ok := Word([4]byte{'G', 'E', 'T', ' '}); ok {
		t.Error("GET is no word")
	}
}
