package zkadmin

import (
	"encoding/json"
	"fmt"
	"html"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cairn/engine/ensemble/quorum"
)

// command is one command of the AdminServer (Commands.java).
type command struct {
	names    []string // the primary name first
	whenDown bool     // answered while the server does not serve
	run      func(a *Admin, r *http.Request) object
}

var commands = []command{
	{[]string{"connection_stat_reset", "crst"}, false, func(a *Admin, _ *http.Request) object {
		a.source.ResetConnectionStats()
		return nil
	}},
	{[]string{"configuration", "conf", "config"}, false, (*Admin).commandConf},
	{[]string{"connections", "cons"}, false, func(a *Admin, _ *http.Request) object {
		return object{{"connections", a.connectionObjects(false)}, {"secure_connections", []any{}}}
	}},
	{[]string{"hash"}, false, (*Admin).commandHash},
	{[]string{"dirs"}, false, func(a *Admin, _ *http.Request) object {
		s := a.source.Stats()
		data, log := s.dirSizes()
		return object{{"datadir_size", data}, {"logdir_size", log}}
	}},
	{[]string{"dump"}, false, (*Admin).commandDump},
	{[]string{"environment", "env", "envi"}, true, func(a *Admin, _ *http.Request) object {
		var o object
		for _, p := range a.environment() {
			o = append(o, field{p.Name, p.Value})
		}
		return o
	}},
	{[]string{"get_trace_mask", "gtmk"}, true, func(a *Admin, _ *http.Request) object {
		return object{{"tracemask", a.traceMask.Load()}}
	}},
	{[]string{"initial_configuration", "icfg"}, false, func(a *Admin, _ *http.Request) object {
		return object{{"initial_configuration", a.cfg.InitialConfiguration}}
	}},
	{[]string{"is_read_only", "isro"}, false, func(a *Admin, _ *http.Request) object {
		return object{{"read_only", a.source.Stats().ReadOnly}}
	}},
	{[]string{"last_snapshot", "lsnp"}, false, (*Admin).commandLastSnapshot},
	{[]string{"leader", "lead"}, false, (*Admin).commandLeader},
	{[]string{"monitor", "mntr"}, true, func(a *Admin, _ *http.Request) object { return a.monitor() }},
	{[]string{"observer_connection_stat_reset", "orst"}, false, func(*Admin, *http.Request) object { return nil }},
	{[]string{"ruok"}, false, func(*Admin, *http.Request) object { return nil }},
	{[]string{"set_trace_mask", "stmk"}, true, (*Admin).commandSetTraceMask},
	{[]string{"server_stats", "srvr"}, false, func(a *Admin, _ *http.Request) object { return a.serverStats() }},
	{[]string{"stats", "stat"}, false, func(a *Admin, _ *http.Request) object {
		return append(a.serverStats(), field{"connections", a.connectionObjects(true)}, field{"secure_connections", []any{}})
	}},
	{[]string{"stat_reset", "srst"}, false, func(a *Admin, _ *http.Request) object {
		a.source.ResetStats()
		return nil
	}},
	{[]string{"observers", "obsr"}, false, (*Admin).commandObservers},
	{[]string{"system_properties", "sysp"}, true, (*Admin).commandProperties},
	{[]string{"voting_view"}, false, (*Admin).commandVotingView},
	{[]string{"watches", "wchc"}, false, func(a *Admin, _ *http.Request) object {
		ids, paths := a.watchesBySession()
		o := object{}
		for _, id := range ids {
			o = append(o, field{strconv.FormatInt(id, 10), paths[id]})
		}
		return object{{"session_id_to_watched_paths", o}}
	}},
	{[]string{"watches_by_path", "wchp"}, false, func(a *Admin, _ *http.Request) object {
		paths, ids := a.watchesByPath()
		o := object{}
		for _, path := range paths {
			o = append(o, field{path, ids[path]})
		}
		return object{{"path_to_session_ids", o}}
	}},
	{[]string{"watch_summary", "wchs"}, false, func(a *Admin, _ *http.Request) object {
		connections, paths, total := a.watchSummary()
		return object{{"num_connections", connections}, {"num_paths", paths}, {"num_total_watches", total}}
	}},
	{[]string{"zabstate"}, true, (*Admin).commandZabState},
}

// Handler serves <CommandURL>/<name> and, at <CommandURL> itself, links to the commands. It answers GET and HEAD, and POST
// for what writes; what it answers is JSON with "command" and "error" (null when there is none) as ZooKeeper's is.
func (a *Admin) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		base := strings.TrimSuffix(a.cfg.CommandURL, "/")
		if base != "" && !strings.HasPrefix(r.URL.Path, base) {
			http.NotFound(w, r)
			return
		}
		if strings.Trim(strings.TrimPrefix(r.URL.Path, base), "/") == "" {
			a.links(w, base)
			return
		}
		a.serve(w, r, name)
	})
}

func (a *Admin) serve(w http.ResponseWriter, r *http.Request, name string) {
	if c, ok := carrying[name]; ok {
		a.carry(w, r, &c)
		return
	}
	i := slices.IndexFunc(commands, func(c command) bool { return slices.Contains(c.names, name) })
	if i < 0 {
		a.write(w, http.StatusOK, name, "Unknown command: "+name, nil)
		return
	}
	c := commands[i]
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		a.write(w, http.StatusMethodNotAllowed, c.names[0], "This command only accepts GET requests", nil)
		return
	}
	if !c.whenDown && !a.source.Stats().Serving {
		a.write(w, http.StatusOK, name, notServing, nil)
		return
	}
	a.write(w, http.StatusOK, c.names[0], "", c.run(a, r))
}

// write sends the fields, the command's name and the error, if there is one.
func (a *Admin) write(w http.ResponseWriter, status int, name, failure string, o object) {
	out := slices.Clone(o)
	out = append(out, field{"command", name})
	if !slices.ContainsFunc(o, func(f field) bool { return f.name == "error" }) {
		if failure == "" {
			out = append(out, field{"error", nil})
		} else {
			out = append(out, field{"error", failure})
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil { // only strings, numbers and booleans are marshalled
		status, text = http.StatusInternalServerError, []byte(`{"error": "Exception writing command response to JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client went away: nobody is left to tell
}

func (a *Admin) links(w http.ResponseWriter, base string) {
	var names []string
	for _, c := range commands {
		names = append(names, c.names[0])
	}
	if a.cfg.Carrier != nil {
		names = append(names, "restore", "snapshot")
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	for _, n := range names {
		link := html.EscapeString(base + "/" + n)
		_, _ = fmt.Fprintf(w, "<a href=\"%s\">%s</a>\n<br/>\n", link, n)
	}
}

func (a *Admin) commandConf(*http.Request) object {
	c := &a.cfg
	return object{
		{"client_port", c.ClientPort},
		{"data_dir", c.DataDir},
		{"data_log_dir", c.DataLogDir},
		{"tick_time", c.TickTime.Milliseconds()},
		{"max_client_cnxns", c.MaxClientConnections},
		{"min_session_timeout", c.MinSessionTimeout.Milliseconds()},
		{"max_session_timeout", c.MaxSessionTimeout.Milliseconds()},
		{"server_id", c.ServerID},
		{"client_port_listen_backlog", c.ListenBacklog},
	}
}

func (a *Admin) connectionObjects(brief bool) []object {
	out := []object{}
	for _, c := range a.connections() {
		o := object{
			{"remote_socket_address", c.Remote.String()},
			{"interest_ops", c.interest()},
			{"outstanding_requests", c.Outstanding},
			{"packets_received", c.Received},
			{"packets_sent", c.Sent},
		}
		if !brief {
			o = append(o, object{
				{"session_id", c.SessionID},
				{"last_operation", c.LastOperation},
				{"established", c.Established.UnixMilli()},
				{"session_timeout", c.SessionTimeout.Milliseconds()},
				{"last_cxid", c.LastCxid},
				{"last_zxid", c.LastZxid},
				{"last_response_time", c.LastResponse},
				{"last_latency", c.LastLatency},
				{"min_latency", c.Latency.Min},
				{"avg_latency", c.averageLatency()},
				{"max_latency", c.Latency.Max},
			}...)
		}
		out = append(out, o)
	}
	return out
}

func (a *Admin) commandHash(*http.Request) object {
	digests := []object{}
	for _, d := range a.source.Stats().Digests {
		digests = append(digests, object{{"zxid", d.Zxid}, {"digest", int64(d.Digest)}, {"digest_version", d.Version}})
	}
	return object{{"digests", digests}}
}

func (a *Admin) commandDump(*http.Request) object {
	expiries, ephemerals := object{}, object{}
	sessions, learner := a.source.Sessions(), a.learns()
	slices.SortStableFunc(sessions, func(x, y Session) int { return x.Expires.Compare(y.Expires) })
	for _, s := range sessions {
		at := strconv.FormatInt(s.Expires.UnixMilli(), 10)
		switch n := len(expiries); {
		case learner: // when it ends is the leader's to know
		case n > 0 && expiries[n-1].name == at:
			expiries[n-1].value = append(expiries[n-1].value.([]int64), s.ID)
		default:
			expiries = append(expiries, field{at, []int64{s.ID}})
		}
		if len(s.Ephemerals) > 0 {
			ephemerals = append(ephemerals, field{strconv.FormatInt(s.ID, 10), s.Ephemerals})
		}
	}
	return object{{"expiry_time_to_session_ids", expiries}, {"session_id_to_ephemeral_paths", ephemerals}}
}

func (a *Admin) commandLastSnapshot(*http.Request) object {
	s := a.source.Stats()
	if s.LastSnapshotTime.IsZero() {
		return object{{"zxid", "ffffffffffffffff"}, {"timestamp", -1}}
	}
	return object{{"zxid", strconv.FormatUint(uint64(s.LastSnapshotZxid), 16)}, {"timestamp", s.LastSnapshotTime.Unix()}}
}

func (a *Admin) commandLeader(*http.Request) object {
	s := a.source.Stats()
	if s.Quorum == nil || s.ReadOnly {
		return object{{"error", "server is not initialized"}}
	}
	leader, _ := s.Quorum.Servers().Server(s.Quorum.Leader)
	return object{{"is_leader", s.Mode == modeLeader}, {"leader_id", s.Quorum.Leader}, {"leader_ip", leader.Host}}
}

// commandObservers names the observers that keep up. Of their connections nothing is known here but where they lead.
func (a *Admin) commandObservers(*http.Request) object {
	s := a.source.Stats()
	all := []object{}
	if s.Quorum == nil || s.Mode != modeLeader {
		return object{{"synced_observers", 0}, {"observers", all}}
	}
	servers := s.Quorum.Servers()
	for i := range s.Quorum.Learners {
		if l := &s.Quorum.Learners[i]; l.syncedObserver() {
			at, _ := servers.Server(l.Server)
			all = append(all, object{{"remote_socket_address", at.PeerAddress()}, {"sid", l.Server}})
		}
	}
	return object{{"synced_observers", len(all)}, {"observers", all}}
}

func (a *Admin) commandVotingView(*http.Request) object {
	view := object{}
	if q := a.source.Stats().Quorum; q != nil {
		for _, s := range q.Servers().Servers {
			if !s.Observer {
				view = append(view, field{strconv.FormatInt(s.ID, 10), object{
					{"server_addresses", []string{s.PeerAddress()}}, {"election_addresses", []string{s.ElectionAddress()}},
					{"client_address", s.ShownClientAddress()}, {"learner_type", s.Role()},
				}})
			}
		}
	}
	return object{{"current_config", view}}
}

// commandZabState is what this server is in the ensemble. The epoch and the counter are the halves of the zxid, of which
// the upper one grows here with restores and recoveries only: the terms of leaders are not in it.
func (a *Admin) commandZabState(*http.Request) object {
	s := a.source.Stats()
	if s.Quorum == nil || s.ReadOnly {
		return object{{"voting", false}, {"zabstate", ""}}
	}
	own, ok := s.Quorum.Servers().Server(a.cfg.ServerID)
	state := "broadcast"
	if s.Quorum.Leader == 0 {
		state = "election"
	}
	return object{
		{"myid", a.cfg.ServerID},
		{"is_leader", s.Mode == modeLeader},
		{"quorum_address", addresses(own, own.PeerPort)},
		{"election_address", addresses(own, own.ElectionPort)},
		{"client_address", own.ShownClientAddress()},
		{"voting", ok && !own.Observer},
		{"last_zxid", fmt.Sprintf("0x%x", uint64(s.Zxid))},
		{"zab_epoch", s.Zxid >> 32},
		{"zab_counter", s.Zxid & 0xffffffff},
		{"zabstate", state},
	}
}

// addresses is MultipleAddresses as a Java bean, of a server with one address, but for what can be reached: that is not tried.
func addresses(s quorum.Server, port int) object {
	one := net.JoinHostPort(s.Host, strconv.Itoa(port))
	return object{
		{"empty", s.Host == ""},
		{"all_addresses", []string{one}},
		{"wildcard_addresses", []string{net.JoinHostPort("0.0.0.0", strconv.Itoa(port))}},
		{"all_ports", []int{port}},
		{"all_host_strings", []string{s.Host}},
		{"one", one},
	}
}

func (a *Admin) commandSetTraceMask(r *http.Request) object {
	query := r.URL.Query()
	if !query.Has("traceMask") {
		return object{{"error", "setTraceMask requires long traceMask argument"}}
	}
	mask, err := strconv.ParseInt(query.Get("traceMask"), 10, 64)
	if err != nil {
		return object{{"error", fmt.Sprintf("setTraceMask requires long traceMask argument, got %.64s", query.Get("traceMask"))}}
	}
	a.traceMask.Store(mask)
	return object{{"tracemask", mask}}
}

func (a *Admin) commandProperties(*http.Request) object {
	var names []string
	for name := range a.cfg.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var o object
	for _, name := range names {
		o = append(o, field{name, a.cfg.Properties[name]})
	}
	return o
}

// serverStats is server_stats: ServerStats as a Java bean.
func (a *Admin) serverStats() object {
	s := a.source.Stats()
	dataBytes, logBytes := s.dirSizes()
	o := object{
		{"version", a.cfg.fullVersion()},
		{"read_only", s.ReadOnly},
		{"server_stats", object{
			{"packets_sent", s.Sent},
			{"packets_received", s.Received},
			{"fsync_threshold_exceed_count", 0},
			{"client_response_stats", s.ResponseSizes},
			{"uptime", s.Uptime.Milliseconds()},
			{"provider_null", false},
			{"server_state", s.Mode},
			{"outstanding_requests", s.Outstanding},
			{"min_latency", s.Latency.Min},
			{"avg_latency", s.Latency.Average()},
			{"max_latency", s.Latency.Max},
			{"data_dir_size", dataBytes},
			{"log_dir_size", logBytes},
			{"last_processed_zxid", s.Zxid},
			{"num_alive_client_connections", s.Connections},
			{"auth_failed_count", s.AuthFailed},
			{"non_mtlsremote_conn_count", 0},
			{"non_mtlslocal_conn_count", 0},
		}},
		{"client_response", s.ResponseSizes},
	}
	if s.Mode == modeLeader {
		o = append(o, field{"proposal_stats", s.ProposalSizes})
	}
	return append(o, field{"node_count", s.Nodes})
}
