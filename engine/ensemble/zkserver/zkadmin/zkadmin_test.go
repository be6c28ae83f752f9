package zkadmin

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cairn/engine/ensemble/quorum"
	"cairn/platform/observe"
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
		stats: Stats{Serving: true, Mode: "leader", Quorum: trio(), Zxid: 0x1f, Nodes: 5, Latency: Latency{Min: 1, Max: 9, Sum: 16, Count: 3},
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

// trio is what the leader of three voters and an observer, of which one voter is away, knows.
func trio() *Quorum {
	servers, err := quorum.ParseConfig("server.1=a:2:3:participant;0.0.0.0:1\nserver.2=b:2:3:participant\nserver.3=c:2:3\nserver.4=[::1]:2:3:observer;9\nversion=1f\n")
	if err != nil {
		panic(err)
	}
	return &Quorum{
		Leader: 1, Voters: 3, PendingSyncs: 2, LeaderUptime: 5 * time.Second, Servers: func() quorum.Config { return servers },
		Learners: []Learner{
			{Server: 2, Votes: true, Heard: true, Synced: true}, {Server: 3, Votes: true}, {Server: 4, Observer: true, Heard: true, Synced: true},
		},
	}
}

func newAdmin(s Source, words ...string) *Admin {
	return New(Config{Version: "3.9.5-x", Built: time.Date(2026, 2, 11, 20, 18, 0, 0, time.UTC), Words: words, CommandURL: "/commands",
		TickTime: 2 * time.Second, ServerID: 1, InitLimit: 10, SyncLimit: 5, MinSessionTimeout: 4 * time.Second, MaxSessionTimeout: 40 * time.Second, ClientPort: 2181, SecureClientPort: -1,
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
			"minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=0\nserverId=1\n" +
			"initLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3\nquorumPort=2\npeerType=0\nmembership: \n" +
			"server.1=a:2:3:participant;0.0.0.0:1\nserver.2=b:2:3:participant\nserver.3=c:2:3:participant\nserver.4=[::1]:2:3:observer;0.0.0.0:9\nversion=1f",
	} {
		if got := a.Answer(word, nil); got != want {
			t.Errorf("%s:\n%q, want\n%q", word, got, want)
		}
	}
}

// What mntr shows depends on the server's role.
func TestMonitorByRole(t *testing.T) {
	s := example()
	s.stats.Counters, s.stats.Metered = []Counter{{"bytes_received_count", 7}}, []Counter{{"commit_count", 8}}
	s.stats.Summaries = []Summary{{"election_time", observe.Span{Totals: observe.Totals{Count: 3, Sum: 16}, Min: 1, Max: 9}}}
	a := newAdmin(s, "*")
	always := "zk_avg_latency\t5.3333 zk_bytes_received_count\t7 zk_commit_count\t8 zk_avg_election_time\t5.3333 zk_min_election_time\t1 " +
		"zk_max_election_time\t9 zk_cnt_election_time\t3 zk_sum_election_time\t16"
	for _, role := range []struct{ mode, has, lacks string }{
		{"leader", "zk_peer_state\tleading - broadcast zk_quorum_size\t3 zk_learners\t2 zk_synced_followers\t1 zk_synced_observers\t1 " +
			"zk_synced_non_voting_followers\t0 zk_pending_syncs\t2 zk_leader_uptime\t5000 zk_last_proposal_size\t48", "zk_observer_master_id"},
		{"follower", "zk_peer_state\tfollowing - broadcast zk_quorum_size\t3", "zk_synced_observers zk_learners zk_leader_uptime zk_max_proposal_size zk_observer_master_id"},
		{"observer", "zk_peer_state\tobserving - broadcast zk_quorum_size\t3 zk_observer_master_id\t1", "zk_learners zk_synced_observers"},
		{"standalone", "", "zk_peer_state zk_quorum_size zk_learners"},
	} {
		s.stats.Mode, s.stats.Quorum = role.mode, trio()
		if role.mode == "standalone" {
			s.stats.Quorum = nil
		}
		got := a.Answer("mntr", nil)
		for _, line := range strings.Split(strings.TrimSpace(always+" zk_server_state\t"+role.mode+" "+role.has), " zk_") {
			if want := "zk_" + strings.TrimPrefix(line, "zk_") + "\n"; !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", role.mode, want, got)
			}
		}
		for _, name := range strings.Fields(role.lacks) {
			if strings.Contains(got, name+"\t") {
				t.Errorf("%s: %s in %s", role.mode, name, got)
			}
		}
	}
	s.stats.Quorum = trio()
	if s.stats.Quorum.Leader = 0; !strings.Contains(a.Answer("mntr", nil), "zk_peer_state\tlooking\n") {
		t.Error("nobody leads, and it does not look")
	}
}

// Prometheus gets what the box's metrics do not have themselves, each once.
func TestMetrics(t *testing.T) {
	s := example()
	s.stats.Counters, s.stats.Metered = []Counter{{"bytes_received_count", 7}}, []Counter{{"commit_count", 8}}
	var b strings.Builder
	newAdmin(s).WriteMetrics(&b)
	got := b.String()
	for _, want := range []string{"avg_latency 5.3333\n", "\nquorum_size 3\n", "\nsynced_followers 1\n", "\nbytes_received_count 7\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(got) {
		name, _, _ := strings.Cut(line, " ")
		if seen[name] || name == "commit_count" || name == "version" {
			t.Errorf("%q", line)
		}
		seen[name] = true
	}
}

// A learner knows the sessions of all, and of its own alone when they end.
func TestDumpByRole(t *testing.T) {
	s := example()
	s.sessions = append(s.sessions, Session{ID: 0x300, Expires: s.sessions[0].Expires, Local: true})
	s.sessions[1].Timeout = 6 * time.Second
	cfg := newAdmin(s, "*").cfg
	cfg.LocalSessions = true
	a := New(cfg, s)
	const ephemerals = "ephemeral nodes dump:\n"
	at := " expire at Fri Jan 15 08:00:00 UTC 2027:\n"
	for mode, want := range map[string]string{
		"leader": "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1" + at + "\t0x300\nGlobal Session Sets (1)/(2):\n2" + at + "\t0x100\n\t0x200\n",
		"follower": "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1" + at + "\t0x300\nGlobal Sessions(2):\n" +
			"0x100\t0ms\n0x200\t6000ms\n",
	} {
		s.stats.Mode = mode
		if got, _, _ := strings.Cut(a.Answer("dump", nil), ephemerals); got != want {
			t.Errorf("%s: %q, want %q", mode, got, want)
		}
	}
	s.stats.Mode = "follower"
	if got := answerOf(t, a, "dump")["expiry_time_to_session_ids"]; len(got.(map[string]any)) != 0 {
		t.Errorf("a follower says when the sessions end: %v", got)
	}
}

func answerOf(t *testing.T, a *Admin, name string) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/commands/"+name, nil))
	m := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m["error"] != nil {
		t.Fatalf("%s: %s %v", name, w.Body, err)
	}
	return m
}

// TestQuorumCommands wants what the leader of three voters and an observer says of them.
func TestQuorumCommands(t *testing.T) {
	a := newAdmin(example(), "*")
	for name, want := range map[string]string{
		"leader": `{"command":"leader","error":null,"is_leader":true,"leader_id":1,"leader_ip":"a"}`,
		"voting_view": `{"command":"voting_view","current_config":{` +
			`"1":{"client_address":"0.0.0.0:1","election_addresses":["a:3"],"learner_type":"participant","server_addresses":["a:2"]},` +
			`"2":{"client_address":"","election_addresses":["b:3"],"learner_type":"participant","server_addresses":["b:2"]},` +
			`"3":{"client_address":"","election_addresses":["c:3"],"learner_type":"participant","server_addresses":["c:2"]}},"error":null}`,
		"observers": `{"command":"observers","error":null,"observers":[{"remote_socket_address":"[::1]:2","sid":4}],"synced_observers":1}`,
		"zabstate": `{"client_address":"0.0.0.0:1","command":"zabstate","election_address":` +
			`{"all_addresses":["a:3"],"all_host_strings":["a"],"all_ports":[3],"empty":false,"one":"a:3","wildcard_addresses":["0.0.0.0:3"]},"error":null,"is_leader":true,"last_zxid":"0x1f",` +
			`"myid":1,"quorum_address":{"all_addresses":["a:2"],"all_host_strings":["a"],"all_ports":[2],"empty":false,"one":"a:2","wildcard_addresses":["0.0.0.0:2"]},"voting":true,"zab_counter":31,"zab_epoch":0,"zabstate":"broadcast"}`,
	} {
		got, err := json.Marshal(answerOf(t, a, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want\n%s", name, got, err, want)
		}
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
