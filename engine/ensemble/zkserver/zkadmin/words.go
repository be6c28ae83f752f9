package zkadmin

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Admin answers words and commands.
type Admin struct {
	cfg    Config
	source Source
	// traceMask is what stmk and set_trace_mask leave and gtmk shows. Nothing is traced by it.
	traceMask atomic.Int64
}

// TraceMaskDefault is ZooTrace's mask of a fresh server.
const TraceMaskDefault = 1<<1 | 1<<4 | 1<<5 | 1<<8

// New returns an Admin that answers from source.
func New(cfg Config, source Source) *Admin {
	a := &Admin{cfg: cfg, source: source}
	a.traceMask.Store(TraceMaskDefault)
	return a
}

const notServing = "This ZooKeeper instance is not currently serving requests"

// telnetClose is what a telnet client sends for an interrupt: FourLetterCommands knows it as a word.
const telnetClose = 0xfff4fffd

// words are the four-letter words. Each renders its answer; those with whenDown set are answered while the server does
// not serve, the others then say that it does not.
var words = map[string]struct {
	whenDown bool
	render   func(a *Admin, b *strings.Builder)
}{
	"conf": {false, (*Admin).conf},
	"cons": {false, (*Admin).cons},
	"crst": {false, func(a *Admin, b *strings.Builder) {
		a.source.ResetConnectionStats()
		b.WriteString("Connection stats reset.\n")
	}},
	"dirs": {false, (*Admin).dirs},
	"dump": {false, (*Admin).dump},
	"envi": {true, (*Admin).envi},
	"gtmk": {true, func(a *Admin, b *strings.Builder) { fmt.Fprint(b, a.traceMask.Load()) }},
	"hash": {false, (*Admin).hash},
	"isro": {true, (*Admin).isro},
	"mntr": {false, (*Admin).mntr},
	"ruok": {true, func(_ *Admin, b *strings.Builder) { b.WriteString("imok") }},
	"srst": {false, func(a *Admin, b *strings.Builder) {
		a.source.ResetStats()
		b.WriteString("Server stats reset.\n")
	}},
	"srvr": {false, func(a *Admin, b *strings.Builder) { a.stat(b, false) }},
	"stat": {false, func(a *Admin, b *strings.Builder) { a.stat(b, true) }},
	"stmk": {true, nil},
	"wchc": {false, (*Admin).wchc},
	"wchp": {false, (*Admin).wchp},
	"wchs": {false, (*Admin).wchs},
}

// Word is the four-letter word that the first four bytes of a connection are, if they are one: those bytes are looked at
// before they are taken for a length (NIOServerCnxn.readLength).
func Word(first [4]byte) (name string, ok bool) {
	if binary.BigEndian.Uint32(first[:]) == telnetClose {
		return "telnet close", true
	}
	_, ok = words[string(first[:])]
	return string(first[:]), ok
}

// WordArgument is how many bytes follow a word: eight after stmk, if it is answered at all.
func (a *Admin) WordArgument(name string) int {
	if name == "stmk" && a.allowed(name) {
		return 8
	}
	return 0
}

func (a *Admin) allowed(name string) bool {
	return name == "srvr" || slices.Contains(a.cfg.Words, name) || slices.Contains(a.cfg.Words, "*")
}

// Answer is the text that answers a word. The connection is closed after it.
func (a *Admin) Answer(name string, argument []byte) string {
	var b strings.Builder
	w := words[name]
	switch {
	case !a.allowed(name):
		b.WriteString(name + " is not executed because it is not in the whitelist.\n")
	case name == "stmk":
		if len(argument) == 8 {
			a.traceMask.Store(int64(binary.BigEndian.Uint64(argument)))
			fmt.Fprint(&b, a.traceMask.Load())
		}
	case w.render == nil: // telnet close: nothing to say
	case !w.whenDown && !a.source.Stats().Serving:
		b.WriteString(notServing)
		if name != "hash" {
			b.WriteByte('\n')
		}
	default:
		w.render(a, &b)
	}
	return b.String()
}

func (a *Admin) conf(b *strings.Builder) {
	s := a.source.Stats()
	dataBytes, logBytes := s.dirSizes()
	for _, p := range []struct {
		name  string
		value any
	}{
		{"clientPort", a.cfg.ClientPort},
		{"secureClientPort", a.cfg.SecureClientPort},
		{"dataDir", a.cfg.DataDir},
		{"dataDirSize", dataBytes},
		{"dataLogDir", a.cfg.DataLogDir},
		{"dataLogSize", logBytes},
		{"tickTime", a.cfg.TickTime.Milliseconds()},
		{"maxClientCnxns", a.cfg.MaxClientConnections},
		{"minSessionTimeout", a.cfg.MinSessionTimeout.Milliseconds()},
		{"maxSessionTimeout", a.cfg.MaxSessionTimeout.Milliseconds()},
		{"clientPortListenBacklog", a.cfg.ListenBacklog},
		{"serverId", a.cfg.ServerID},
	} {
		fmt.Fprintf(b, "%s=%v\n", p.name, p.value)
	}
	if s.Quorum != nil {
		a.confQuorum(b, &s)
	}
}

// confQuorum is what QuorumZooKeeperServer.dumpConf adds, and ReadOnlyZooKeeperServer's but for the membership.
func (a *Admin) confQuorum(b *strings.Builder, s *Stats) {
	servers := s.Quorum.Servers()
	own, _ := servers.Server(a.cfg.ServerID)
	peerType := 0
	if own.Observer {
		peerType = 1
	}
	fmt.Fprintf(b, "initLimit=%d\nsyncLimit=%d\nelectionAlg=3\nelectionPort=%d\nquorumPort=%d\npeerType=%d\n",
		a.cfg.InitLimit, a.cfg.SyncLimit, own.ElectionPort, own.PeerPort, peerType)
	if !s.ReadOnly {
		fmt.Fprintf(b, "membership: \n%sversion=%x", servers.Lines(), servers.Version)
	}
}

func (a *Admin) cons(b *strings.Builder) {
	for _, c := range a.connections() {
		c.write(b, false)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

func (a *Admin) connections() []Connection {
	all := a.source.Connections()
	slices.SortFunc(all, func(x, y Connection) int { return x.Remote.Compare(y.Remote) })
	return all
}

// write is ServerCnxn.dumpConnectionInfo.
func (c *Connection) write(b *strings.Builder, brief bool) {
	fmt.Fprintf(b, " %s[%x](queued=%d,recved=%d,sent=%d", c.remote(), c.interest(), c.Outstanding, c.Received, c.Sent)
	if !brief && c.SessionID != 0 {
		fmt.Fprintf(b, ",sid=%s,lop=%s,est=%d,to=%d", hex(c.SessionID), c.LastOperation, c.Established.UnixMilli(), c.SessionTimeout.Milliseconds())
		if c.LastCxid >= 0 {
			fmt.Fprintf(b, ",lcxid=%s", hex(c.LastCxid))
		}
		fmt.Fprintf(b, ",lzxid=%s,lresp=%d,llat=%d,minlat=%d,avglat=%d,maxlat=%d", hex(c.LastZxid), c.LastResponse,
			c.LastLatency, c.Latency.Min, c.averageLatency(), c.Latency.Max)
	}
	b.WriteByte(')')
}

func (c *Connection) averageLatency() int64 {
	if c.Latency.Count == 0 {
		return 0
	}
	return c.Latency.Sum / c.Latency.Count
}

func (a *Admin) dirs(b *strings.Builder) {
	s := a.source.Stats()
	data, log := s.dirSizes()
	fmt.Fprintf(b, "datadir_size: %d\nlogdir_size: %d\n", data, log)
}

func (a *Admin) dump(b *strings.Builder) {
	sessions := a.source.Sessions()
	b.WriteString("SessionTracker dump:\n")
	a.dumpSessions(b, sessions)
	b.WriteString("ephemeral nodes dump:\n")
	owners := 0
	for _, s := range sessions {
		if len(s.Ephemerals) > 0 {
			owners++
		}
	}
	fmt.Fprintf(b, "Sessions with Ephemerals (%d):\n", owners)
	for _, s := range sessions {
		if len(s.Ephemerals) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s:\n", hex(s.ID))
		for _, path := range s.Ephemerals {
			fmt.Fprintf(b, "\t%s\n", path)
		}
	}
	b.WriteString("Connections dump:\nConnections ")
	var expiries []expiry
	for _, c := range a.connections() {
		expiries = append(expiries, expiry{c.Expires, fmt.Sprintf("ip: %s sessionId: %s", c.remote(), hex(c.SessionID))})
	}
	dumpExpiries(b, expiries)
}

// dumpSessions is the trackers' part: when the sessions end is the leader's to know, and of its own each server's.
func (a *Admin) dumpSessions(b *strings.Builder, sessions []Session) {
	var local, global []expiry
	for _, s := range sessions {
		if e := (expiry{s.Expires, hex(s.ID)}); s.Local {
			local = append(local, e)
		} else {
			global = append(global, e)
		}
	}
	learner := a.learns()
	if a.cfg.LocalSessions {
		b.WriteString("Local Session ")
		dumpExpiries(b, local)
		if !learner {
			b.WriteString("Global ")
		}
	}
	if !learner {
		b.WriteString("Session ")
		dumpExpiries(b, global)
		return
	}
	fmt.Fprintf(b, "Global Sessions(%d):\n", len(global))
	for _, s := range sessions {
		if !s.Local {
			fmt.Fprintf(b, "%s\t%dms\n", hex(s.ID), s.Timeout.Milliseconds())
		}
	}
}

// learns tells whether the server follows or observes.
func (a *Admin) learns() bool {
	mode := a.source.Stats().Mode
	return mode == modeFollower || mode == modeObserver
}

type expiry struct {
	at   time.Time
	what string
}

// dumpExpiries is ExpiryQueue.dump: what ends at the same time is one set.
func dumpExpiries(b *strings.Builder, all []expiry) {
	sort.SliceStable(all, func(i, j int) bool { return all[i].at.Before(all[j].at) })
	sets := 0
	for i := range all {
		if i == 0 || !all[i].at.Equal(all[i-1].at) {
			sets++
		}
	}
	fmt.Fprintf(b, "Sets (%d)/(%d):\n", sets, len(all))
	for start := 0; start < len(all); {
		end := start
		for end < len(all) && all[end].at.Equal(all[start].at) {
			end++
		}
		fmt.Fprintf(b, "%d expire at %s:\n", end-start, javaDate(all[start].at))
		for _, e := range all[start:end] {
			fmt.Fprintf(b, "\t%s\n", e.what)
		}
		start = end
	}
}

func (a *Admin) envi(b *strings.Builder) {
	b.WriteString("Environment:\n")
	for _, p := range a.environment() {
		fmt.Fprintf(b, "%s=%s\n", p.Name, p.Value)
	}
}

func (a *Admin) environment() []Pair {
	return append([]Pair{{"zookeeper.version", a.cfg.fullVersion()}}, a.cfg.Environment...)
}

func (a *Admin) hash(b *strings.Builder) {
	for _, d := range a.source.Stats().Digests {
		fmt.Fprintf(b, "%x: %d\n", uint64(d.Zxid), int64(d.Digest))
	}
}

func (a *Admin) isro(b *strings.Builder) {
	switch s := a.source.Stats(); {
	case !s.Serving:
		b.WriteString("null")
	case s.ReadOnly:
		b.WriteString("ro")
	default:
		b.WriteString("rw")
	}
}

func (a *Admin) mntr(b *strings.Builder) {
	for _, f := range a.monitor() {
		fmt.Fprintf(b, "zk_%s\t%v\n", f.name, javaNumber(f.value))
	}
}

// javaNumber prints a double as Java does: with a decimal point always.
func javaNumber(v any) any {
	f, ok := v.(float64)
	if !ok {
		return v
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// stat is srvr, and with clients stat.
func (a *Admin) stat(b *strings.Builder, clients bool) {
	s := a.source.Stats()
	fmt.Fprintf(b, "Zookeeper version: %s\n", a.cfg.fullVersion())
	if s.ReadOnly {
		b.WriteString("READ-ONLY mode; serving only read-only clients\n")
	}
	if clients {
		b.WriteString("Clients:\n")
		for _, c := range a.connections() {
			c.write(b, true)
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "Latency min/avg/max: %d/%v/%d\n", s.Latency.Min, javaNumber(s.Latency.Average()), s.Latency.Max)
	fmt.Fprintf(b, "Received: %d\nSent: %d\nConnections: %d\nOutstanding: %d\n", s.Received, s.Sent, s.Connections, s.Outstanding)
	fmt.Fprintf(b, "Zxid: %s\nMode: %s\nNode count: %d\n", hex(s.Zxid), s.Mode, s.Nodes)
	if s.Mode == modeLeader {
		fmt.Fprintf(b, "Proposal sizes last/min/max: %d/%d/%d\n", s.ProposalSizes.Last, s.ProposalSizes.Min, s.ProposalSizes.Max)
	}
}

// bySession and byPath group the watches.
func (a *Admin) watchesBySession() (ids []int64, paths map[int64][]string) {
	paths = map[int64][]string{}
	for _, w := range a.source.Watches() {
		paths[w.SessionID] = append(paths[w.SessionID], w.Path)
	}
	for id, p := range paths {
		slices.Sort(p)
		paths[id] = slices.Compact(p)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, paths
}

func (a *Admin) watchesByPath() (paths []string, ids map[string][]int64) {
	ids = map[string][]int64{}
	for _, w := range a.source.Watches() {
		ids[w.Path] = append(ids[w.Path], w.SessionID)
	}
	for path, s := range ids {
		slices.Sort(s)
		ids[path] = slices.Compact(s)
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, ids
}

func (a *Admin) wchc(b *strings.Builder) {
	ids, paths := a.watchesBySession()
	for _, id := range ids {
		fmt.Fprintf(b, "%s\n", hex(id))
		for _, path := range paths[id] {
			fmt.Fprintf(b, "\t%s\n", path)
		}
	}
	b.WriteByte('\n')
}

func (a *Admin) wchp(b *strings.Builder) {
	paths, ids := a.watchesByPath()
	for _, path := range paths {
		fmt.Fprintf(b, "%s\n", path)
		for _, id := range ids[path] {
			fmt.Fprintf(b, "\t%s\n", hex(id))
		}
	}
	b.WriteByte('\n')
}

// watchSummary counts connections, paths and pairs of both.
func (a *Admin) watchSummary() (connections, paths, total int) {
	ids, bySession := a.watchesBySession()
	seen := map[string]bool{}
	for _, id := range ids {
		total += len(bySession[id])
		for _, p := range bySession[id] {
			seen[p] = true
		}
	}
	return len(ids), len(seen), total
}

func (a *Admin) wchs(b *strings.Builder) {
	connections, paths, total := a.watchSummary()
	fmt.Fprintf(b, "%d connections watching %d paths\nTotal watches:%d\n", connections, paths, total)
}
