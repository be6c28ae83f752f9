package group

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print into testdata")

// TestScripts runs testdata/*.txt. A script is blocks of commands, "----", what they print, and an empty line. Time is
// virtual; nothing is committed until the command commits it, so that the scripts show which answers wait.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) { runScript(t, name) })
	}
}

func runScript(t *testing.T, name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(string(text), "\n"), "\n\n") {
		commands, want, found := strings.Cut(block, "\n----\n")
		if !found {
			commands, want = strings.TrimSuffix(block, "\n----"), ""
		}
		got := ""
		if !onlyComments(commands) {
			got = strings.TrimRight(w.run(t, commands), "\n")
		}
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "\n")
		if !onlyComments(commands) {
			out.WriteString("----\n")
			if got != "" {
				out.WriteString(got + "\n")
			}
			if !*rewrite && got != strings.TrimRight(want, "\n") {
				t.Errorf("%s\n----\ngot:\n%s\nwant:\n%s", commands, got, want)
			}
		}
		if err := checkInvariants(w.s); err != nil {
			t.Fatalf("%s: %v", commands, err)
		}
	}
	if *rewrite {
		if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func onlyComments(block string) bool {
	for _, line := range strings.Split(block, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// world is one Groups with a clock, a log and whoever asked.
type world struct {
	s        *Groups
	now      Time
	settings Settings
	limits   limits.Group
	last     Ticket
	unique   int
	log      []Record // committed
	sealed   []Record // appended, not committed
	number   uint64
	out      strings.Builder
}

func newWorld() *world {
	w := &world{
		now:      Time{Mono: time.Second, Wall: 1_767_225_600_000},
		settings: DefaultSettings(), limits: limits.Derive(256 << 20).Group,
	}
	w.s = New(w.settings, w.limits)
	return w
}

func (w *world) run(t *testing.T, commands string) string {
	w.out.Reset()
	for _, line := range strings.Split(commands, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		w.command(t, fields[0], fields[1:])
		w.print()
	}
	return w.out.String()
}

// args are name=value words; words without "=" are in order under "".
type args struct {
	t     *testing.T
	words []string
	named map[string]string
}

func parseArgs(t *testing.T, fields []string) args {
	a := args{t: t, named: map[string]string{}}
	for _, f := range fields {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.named[k] = v
		} else {
			a.words = append(a.words, f)
		}
	}
	return a
}

func (a args) int(name string, otherwise int64) int64 {
	v, ok := a.named[name]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (a args) duration(name string, otherwise time.Duration) time.Duration {
	v, ok := a.named[name]
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return d
}

func (a args) text(name string) *string {
	if v, ok := a.named[name]; ok {
		return &v
	}
	return nil
}

func (a args) group() string {
	if len(a.words) == 0 {
		return ""
	}
	return strings.Trim(a.words[0], `"`)
}

func (w *world) target(a args) Target {
	w.last++
	return Target{Group: a.group(), Ticket: w.last}
}

func (w *world) command(t *testing.T, name string, fields []string) {
	a := parseArgs(t, fields)
	switch name {
	case "settings":
		w.settings.InitialDelay = a.duration("delay", w.settings.InitialDelay)
		w.settings.MembersMax = int(a.int("max", int64(w.settings.MembersMax)))
		w.settings.Retention = a.duration("retention", w.settings.Retention)
		w.settings.MetadataMax = int(a.int("metadata", int64(w.settings.MetadataMax)))
		w.limits.OffsetsMax = int(a.int("offsets", int64(w.limits.OffsetsMax)))
		w.limits.GroupsMax = int(a.int("groups", int64(w.limits.GroupsMax)))
		w.s.limits = w.limits
		w.s.Configure(w.settings, 1<<30)
	case "join":
		w.s.Step(w.now, w.join(a))
	case "sync":
		q := &Sync{Target: w.target(a), Generation: int32(a.int("gen", 0)), MemberID: a.named["m"], InstanceID: a.text("i"), ProtocolType: a.text("t"), Protocol: a.text("p")}
		for _, s := range split(a.named["a"]) {
			id, data, _ := strings.Cut(s, ":")
			q.Assignments = append(q.Assignments, Assignment{id, []byte(data)})
		}
		w.s.Step(w.now, q)
	case "heartbeat":
		w.s.Step(w.now, &Heartbeat{Target: w.target(a), Generation: int32(a.int("gen", 0)), MemberID: a.named["m"], InstanceID: a.text("i")})
	case "leave":
		q := &Leave{Target: w.target(a)}
		for _, id := range split(a.named["m"]) {
			q.Members = append(q.Members, Leaver{MemberID: id, Reason: a.named["reason"]})
		}
		for _, id := range split(a.named["i"]) {
			q.Members = append(q.Members, Leaver{InstanceID: &id})
		}
		w.s.Step(w.now, q)
	case "commit":
		w.s.Step(w.now, w.commit(a))
	case "fetch":
		q := &FetchOffsets{Target: w.target(a), All: len(a.words) == 1, RequireStable: a.named["stable"] != ""}
		q.Topics = topicPartitions(t, a.words[1:])
		w.s.Step(w.now, q)
	case "offset-delete":
		w.s.Step(w.now, &DeleteOffsets{Target: w.target(a), Topics: topicPartitions(t, a.words[1:])})
	case "delete":
		w.s.Step(w.now, &Delete{w.target(a)})
	case "describe":
		w.s.Step(w.now, &Describe{w.target(a)})
	case "list":
		for _, l := range w.s.List(nil, a.words) {
			fmt.Fprintf(&w.out, "%s %q %v\n", l.Group, l.ProtocolType, l.State)
		}
	default:
		w.outside(t, name, a)
	}
}

// outside are the commands for what the owner does.
func (w *world) outside(t *testing.T, name string, a args) {
	switch name {
	case "committed":
		w.seal()
		w.log = append(w.log, w.sealed...)
		w.sealed = nil
		w.s.Committed(w.number)
	case "advance":
		w.advance(a.duration("by", 0))
	case "expire":
		w.s.Expire(w.now)
	case "topics-deleted":
		w.s.TopicsDeleted(w.now, a.words)
	case "jump":
		w.now.Wall += a.duration("by", 0).Milliseconds()
	case "crash": // everything uncommitted is lost
		w.s = New(w.settings, w.limits)
		w.sealed, w.number = nil, 0
		for i, r := range w.log {
			if err := w.s.Replay(w.now, int64(i), -1, r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		w.s.Loaded(w.now)
	case "txn": // a transactional commit in the log, as another version may have left
		q := w.commit(a)
		for _, topic := range q.Topics {
			for _, p := range topic.Partitions {
				o := &offset{offset: p.Offset, leaderEpoch: -1, committed: w.now.Wall, expire: -1}
				if err := w.s.Replay(w.now, w.s.position+1, a.int("producer", 1), offsetKey(q.Group, topic.Topic, p.Partition), offsetValue(o)); err != nil {
					t.Fatal(err)
				}
			}
		}
	case "end":
		w.s.EndTransaction(a.int("producer", 1), a.named["commit"] != "")
	default:
		t.Fatalf("no command %q", name)
	}
}

func (w *world) seal() {
	if records, number, ok := w.s.Seal(); ok {
		w.sealed = append(w.sealed, records...)
		w.number = number
	}
}

// advance moves the clocks, stopping wherever something is due.
func (w *world) advance(d time.Duration) {
	end := w.now.Mono + d
	for {
		next := w.s.Tick(w.now)
		if next == 0 || next > end {
			break
		}
		if next > w.now.Mono {
			w.now.Wall += (next - w.now.Mono).Milliseconds()
			w.now.Mono = next
		}
	}
	w.now.Wall += (end - w.now.Mono).Milliseconds()
	w.now.Mono = end
	w.s.Tick(w.now)
}

func (w *world) join(a args) *Join {
	w.unique++
	q := &Join{
		Target: w.target(a), Version: int16(a.int("v", 9)), MemberID: a.named["m"], InstanceID: a.text("i"),
		ClientID: a.named["c"], ClientHost: "/10.0.0.1", Session: a.duration("s", 10*time.Second),
		Rebalance: a.duration("r", time.Minute), ProtocolType: "consumer", Reason: a.named["reason"],
		Unique: "u" + strconv.Itoa(w.unique),
	}
	if v, ok := a.named["t"]; ok {
		q.ProtocolType = v
	}
	protocols := a.named["p"]
	if _, ok := a.named["p"]; !ok {
		protocols = "range:t"
	}
	for _, p := range split(protocols) {
		name, topics, _ := strings.Cut(p, ":")
		q.Protocols = append(q.Protocols, Protocol{name, metadata(strings.Split(topics, "+"))})
	}
	return q
}

// metadata is a consumer's subscription as kmsg writes it; "?" stands for bytes that are none.
func metadata(topics []string) []byte {
	if topics[0] == "?" {
		return []byte{0, 0, 0xff}
	}
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, topics
	return m.AppendTo(nil)
}

func (w *world) commit(a args) *Commit {
	q := &Commit{
		Target: w.target(a), Version: int16(a.int("v", 9)), Generation: int32(a.int("gen", -1)), MemberID: a.named["m"],
		InstanceID: a.text("i"), Retention: a.duration("retention", -1),
	}
	for _, word := range a.words[1:] {
		where, value, _ := strings.Cut(word, "@")
		topic, partition := topicPartition(a.t, where)
		offset, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			a.t.Fatal(err)
		}
		q.Topics = append(q.Topics, CommitTopic{topic, []CommitPartition{{partition, offset, -1, a.named["meta"]}}})
	}
	return q
}

func topicPartition(t *testing.T, word string) (string, int32) {
	i := strings.LastIndexByte(word, '-')
	n, err := strconv.Atoi(word[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	return word[:i], int32(n)
}

func topicPartitions(t *testing.T, words []string) (list []TopicPartitions) {
	for _, word := range words {
		topic, partition := topicPartition(t, word)
		list = append(list, TopicPartitions{topic, []int32{partition}})
	}
	return list
}

func split(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

// print shows what the last command did: answers, events, records.
func (w *world) print() {
	for _, r := range w.s.TakeReplies() {
		wait := ""
		if r.After != 0 {
			wait = fmt.Sprintf(" after batch %d", r.After)
		}
		fmt.Fprintf(&w.out, "#%d%s %s\n", r.To, wait, show(r.Answer))
	}
	for _, e := range w.s.TakeEvents() {
		names := []string{"rebalancing", "stabilized", "assigned", "empty", "member expired", "removed", "offsets gone"}
		fmt.Fprintf(&w.out, "! %s %s generation %d count %d %s\n", e.Group, names[e.Kind], e.Generation, e.Count, e.Reason)
	}
	before := len(w.sealed)
	w.seal()
	for _, r := range w.sealed[before:] {
		fmt.Fprintf(&w.out, "> batch %d: %s\n", w.number, showRecord(r))
	}
}

func name(err *kerr.Error) string {
	if err == nil {
		return "ok"
	}
	return err.Message
}

func orNull(v *string) string {
	if v == nil {
		return "null"
	}
	return *v
}

func show(a Answer) string {
	var b strings.Builder
	switch a := a.(type) {
	case *JoinAnswer:
		fmt.Fprintf(&b, "join %s member=%s", name(a.Err), a.MemberID)
		if a.Err != nil {
			break
		}
		fmt.Fprintf(&b, " generation=%d leader=%s %s/%s", a.Generation, a.Leader, orNull(a.ProtocolType), orNull(a.Protocol))
		for _, m := range a.Members {
			fmt.Fprintf(&b, " [%s %s %d bytes]", m.ID, orNull(m.InstanceID), len(m.Metadata))
		}
		if a.SkipAssignment {
			b.WriteString(" skip")
		}
	case *SyncAnswer:
		fmt.Fprintf(&b, "sync %s %q", name(a.Err), a.Assignment)
	case *HeartbeatAnswer:
		fmt.Fprintf(&b, "heartbeat %s", name(a.Err))
	case *LeaveAnswer:
		fmt.Fprintf(&b, "leave %s", name(a.Err))
		for _, m := range a.Members {
			fmt.Fprintf(&b, " [%s %s %s]", m.MemberID, orNull(m.InstanceID), name(m.Err))
		}
	case *CommitAnswer:
		fmt.Fprintf(&b, "commit %s", name(a.Err))
		for _, err := range a.Partitions {
			fmt.Fprintf(&b, " %s", name(err))
		}
	case *FetchAnswer:
		fmt.Fprintf(&b, "fetch %s", name(a.Err))
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, " [%s-%d %d %q %s]", t.Topic, p.Partition, p.Offset, p.Metadata, name(p.Err))
			}
		}
	case *DeleteOffsetsAnswer:
		fmt.Fprintf(&b, "offset-delete %s", name(a.Err))
		for _, err := range a.Partitions {
			fmt.Fprintf(&b, " %s", name(err))
		}
	case *DeleteAnswer:
		fmt.Fprintf(&b, "delete %s", name(a.Err))
	case *DescribeAnswer:
		fmt.Fprintf(&b, "describe %s %v %q/%q", name(a.Err), a.State, a.ProtocolType, a.Protocol)
		for _, m := range a.Members {
			fmt.Fprintf(&b, " [%s %s %s %s %d bytes %q]", m.ID, orNull(m.InstanceID), m.ClientID, m.ClientHost, len(m.Metadata), m.Assignment)
		}
	}
	return b.String()
}

// showRecord decodes with kmsg, not with this package, so that the format is Kafka's and not just our own.
func showRecord(r Record) string {
	version := int16(r.Key[0])<<8 | int16(r.Key[1])
	if version == groupKeyVersion {
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(r.Key); err != nil {
			return err.Error()
		}
		if r.Value == nil {
			return "group " + k.Group + " removed"
		}
		v := kmsg.NewGroupMetadataValue()
		if err := v.ReadFrom(r.Value); err != nil {
			return err.Error()
		}
		if again := v.AppendTo(nil); !bytes.Equal(again, r.Value) {
			return fmt.Sprintf("group value %x, kmsg writes %x", r.Value, again)
		}
		text := fmt.Sprintf("group %s v%d %q generation %d protocol %s leader %s", k.Group, v.Version, v.ProtocolType, v.Generation, orNull(v.Protocol), orNull(v.Leader))
		for _, m := range v.Members {
			text += fmt.Sprintf(" [%s %s %s %d/%d %d bytes %q]", m.MemberID, orNull(m.InstanceID), m.ClientID, m.SessionTimeoutMillis, m.RebalanceTimeoutMillis, len(m.Subscription), m.Assignment)
		}
		return text
	}
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(r.Key); err != nil {
		return err.Error()
	}
	where := fmt.Sprintf("offset %s %s-%d", k.Group, k.Topic, k.Partition)
	if r.Value == nil {
		return where + " removed"
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(r.Value); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s v%d %d epoch %d %q", where, v.Version, v.Offset, v.LeaderEpoch, v.Metadata)
}

// checkInvariants compares what the groups count with what they hold.
func checkInvariants(s *Groups) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var total int64
	offsets := 0
	for id, g := range s.groups {
		size, joining, n := groupBytes+len(id), 0, 0
		supported := map[string]int{}
		bytes, joins := checkMembers(g, supported, bad)
		size, joining = size+bytes, joins
		for p := range g.pendingJoin {
			size += pendingBytes + len(p)
		}
		for topic, partitions := range g.offsets {
			size += topicBytes + len(topic)
			for _, o := range partitions {
				size += o.size()
				n++
			}
		}
		pending := 0
		for _, t := range s.txns {
			for _, partitions := range t.groups[id] {
				for _, o := range partitions {
					size += o.size()
					pending++
				}
			}
		}
		offsets += n
		if len(g.member) != len(g.members) || joining != g.awaitingJoin || n != g.offsetCount || pending != g.txnOffsets {
			bad("%s: %d members in the map, %d in the list, %d joining, %d counted, %d offsets, %d counted", id, len(g.member), len(g.members), joining, g.awaitingJoin, n, g.offsetCount)
		}
		if fmt.Sprint(sorted(supported)) != fmt.Sprint(sorted(g.supported)) {
			bad("%s: protocols %v, counted %v", id, supported, g.supported)
		}
		if g.leader != "" && g.member[g.leader] == nil {
			bad("%s: leader %s is no member", id, g.leader)
		}
		if g.state == Empty && len(g.members) > 0 || (g.state == Stable || g.state == CompletingRebalance) && len(g.members) == 0 {
			bad("%s: %v with %d members", id, g.state, len(g.members))
		}
		for m := range g.pendingSync {
			if g.member[m] == nil {
				bad("%s: %s is expected to sync and is no member", id, m)
			}
		}
		if int64(size) != g.bytes {
			bad("%s: takes %d bytes, counted %d", id, size, g.bytes)
		}
		total += g.bytes
	}
	if total != s.bytes || offsets != s.offsets {
		bad("%d bytes, counted %d; %d offsets, counted %d", total, s.bytes, offsets, s.offsets)
	}
	return errors.Join(errs...)
}

// checkMembers adds up the members' sizes and parked joins, and what protocols they know.
func checkMembers(g *group, supported map[string]int, bad func(string, ...any)) (size, joining int) {
	id := g.id
	for _, m := range g.members {
		if g.member[m.id] != m || m.instance != nil && g.static[*m.instance] != m {
			bad("%s: member %s is not where it belongs", id, m.id)
		}
		if m.join != 0 {
			joining++
		}
		for _, p := range m.protocols {
			supported[p.Name]++
		}
		if m.bytes != m.size() {
			bad("%s: member %s of %d bytes is counted with %d", id, m.id, m.size(), m.bytes)
		}
		size += m.bytes
		if m.deadline != 0 && (g.at < 0 || g.wake > m.deadline) {
			bad("%s: nobody looks at the session of %s", id, m.id)
		}
	}
	return size, joining
}

func sorted(m map[string]int) (list []string) {
	for k, v := range m {
		list = append(list, fmt.Sprint(k, "=", v))
	}
	sort.Strings(list)
	return list
}
