package znode

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cairn/engine/ensemble/jute"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print as what they expect")

// TestScripts runs testdata/*.txt: blocks of commands, a line "----", and what they print, up to an empty line. Lines
// that begin with # are comments. Each file is named after what it shows; a leading number is that of
// the semantics that it shows (engine/semantics_test.go), which its first comment names.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript(t).run(string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s: got\n%s", file, got)
			}
		})
	}
}

type script struct {
	tb       testing.TB
	tree     *Tree
	sessions map[string]int64
	entry    Entry // what every entry begins as
	out      strings.Builder
}

func newScript(tb testing.TB) *script {
	return &script{tb: tb, tree: New(), sessions: map[string]int64{}, entry: Entry{TimeMs: 1000}}
}

func (s *script) run(text string) string {
	var out strings.Builder
	var block []string
	expecting := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case expecting && line != "":
		case expecting:
			expecting = false
			out.WriteString("\n")
		case line == "----":
			out.WriteString("----\n")
			s.out.Reset()
			s.block(block)
			out.WriteString(s.out.String())
			block, expecting = nil, true
		default:
			out.WriteString(line + "\n")
			if line != "" && line[0] != '#' {
				block = append(block, line)
			}
		}
	}
	return out.String()
}

// block runs commands; indented lines are the ops of the command before.
func (s *script) block(lines []string) {
	for i := 0; i < len(lines); {
		end := i + 1
		for end < len(lines) && lines[end][0] == ' ' {
			end++
		}
		s.command(strings.Fields(lines[i]), lines[i+1:end])
		if err := checkTree(s.tree); err != nil {
			s.tb.Fatalf("after %q: %v", lines[i], err)
		}
		i = end
	}
}

// args splits words into a map of key=value and what is not.
func args(words []string) (plain []string, keys map[string]string) {
	keys = map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok && k != "" && !strings.HasPrefix(w, "/") {
			keys[k] = v
			continue
		}
		plain = append(plain, w)
	}
	return plain, keys
}

func (s *script) command(words []string, more []string) {
	plain, keys := args(words[1:])
	for i := range plain {
		plain[i] = unescape(plain[i])
	}
	switch words[0] {
	case "as": // who asks from now on
		s.entry = Entry{TimeMs: s.entry.TimeMs, Auth: parseIDs(keys["ids"]), Box: number(keys["box"])}
		if len(plain) > 0 {
			s.entry.Session = s.sessions[plain[0]]
		}
		for _, f := range strings.Split(keys["flags"], ",") {
			s.entry.Flags |= map[string]Flags{
				"internal": FlagInternal, "extended": FlagExtendedTypes, "quota": FlagEnforceQuota, "skipacl": FlagSkipACL,
				"sasl": FlagSASL, "x509": FlagX509,
			}[f]
		}
	case "time":
		s.entry.TimeMs = int64(number(plain[0]))
	case "session":
		o := s.apply(Entry{Kind: KindCreateSession, TimeoutMs: 4000, Box: number(keys["box"])})
		s.sessions[plain[0]] = o.Session
	case "close":
		s.apply(Entry{Kind: KindCloseSession, Session: s.sessions[plain[0]]})
	case "expire":
		s.apply(Entry{Kind: KindExpireSession, Session: s.sessions[plain[0]], Box: number(keys["box"])})
	case "move":
		s.apply(Entry{Kind: KindMoveSession, Session: s.sessions[plain[0]], Box: number(keys["box"])})
	case "register":
		o := s.apply(Entry{Kind: KindRegister, Box: number(keys["box"]), Incarnation: number(keys["inc"]), Ops: parseOps(more)})
		if o.Err == jute.OK {
			s.sessions["box"+keys["box"]] = o.Session
		}
	case "expirebox":
		s.apply(Entry{Kind: KindExpireBox, Box: number(keys["box"]), Incarnation: number(keys["inc"])})
	case "multi":
		s.apply(Entry{Kind: KindMulti, Ops: parseOps(more)})
	case "reap":
		e := Entry{Kind: KindReap, NeverUsedMs: int64(number(keys["neverused"]))}
		for _, p := range plain {
			e.Ops = append(e.Ops, jute.Op{Type: jute.OpDeleteContainer, Path: p})
		}
		s.apply(e)
	case "reapable":
		ops, next := s.tree.Reapable(0, 1000, 1000, s.entry.TimeMs, int64(number(keys["neverused"])))
		for _, op := range ops {
			s.printf("  %s\n", op.Path)
		}
		s.printf("next=%d\n", next)
	case "rules":
		s.apply(Entry{Kind: KindSetRules, Rules: uint32(number(plain[0]))})
	case "secret":
		s.apply(Entry{Kind: KindSetSecret, Data: []byte(plain[0])})
	case "config":
		e := Entry{Kind: KindReconfig, Data: []byte(unescape(words[1])), Ops: parseOps(more)}
		if code := keys["refuse"]; code != "" {
			e.Ops = []jute.Op{{Type: jute.OpError, Version: -int32(number(code))}}
		}
		s.apply(e)
	case "advance":
		s.apply(Entry{Kind: KindAdvanceZxid, Zxid: int64(number(plain[0]))})
	case "noop":
		s.apply(Entry{Kind: KindNoop})
	case "restore":
		s.tree = restored(s.tb, s.tree)
	default:
		if s.read(words[0], plain, keys) {
			return
		}
		s.apply(Entry{Kind: KindOp, Ops: parseOps([]string{strings.Join(words, " ")})})
	}
}

// read runs the commands that change nothing.
func (s *script) read(name string, plain []string, keys map[string]string) bool {
	who := s.entry.access()
	switch name {
	case "get":
		data, stat, err := s.tree.Get(plain[0], who)
		s.printf("%s\n", orErr(err, fmt.Sprintf("%q %s", showData(data), showStat(stat))))
	case "exists":
		stat, err := s.tree.Exists(plain[0], who)
		s.printf("%s\n", orErr(err, showStat(stat)))
	case "children":
		names, _, err := s.tree.Children(plain[0], who)
		s.printf("%s\n", orErr(err, list(names)))
	case "getacl":
		acls, _, err := s.tree.ACL(plain[0], who)
		s.printf("%s\n", orErr(err, showACL(acls)))
	case "count":
		n, err := s.tree.AllChildrenNumber(plain[0], who)
		s.printf("%s\n", orErr(err, strconv.Itoa(int(n))))
	case "ephemerals":
		prefix := ""
		if len(plain) > 1 {
			prefix = plain[1]
		}
		s.printf("%s\n", list(s.tree.Ephemerals(s.sessions[plain[0]], prefix)))
	case "zxid":
		s.printf("%#x\n", s.tree.Zxid())
	case "nodes":
		s.printf("%d, sessions %d, ephemerals %d, containers %d, ttl %d, bytes %d\n", s.tree.NodeCount(),
			s.tree.SessionCount(), s.tree.EphemeralsCount(), s.tree.ContainersCount(), s.tree.TTLCount(), s.tree.DataSize())
	default:
		return false
	}
	return true
}

func (s *script) printf(format string, a ...any) { fmt.Fprintf(&s.out, format, a...) }

// apply applies an entry through its encoding, as every box does, and prints the outcome.
func (s *script) apply(e Entry) Outcome {
	d := s.entry
	d.Kind, d.Ops, d.TimeoutMs, d.Incarnation, d.NeverUsedMs, d.Zxid, d.Data = e.Kind, e.Ops, e.TimeoutMs, e.Incarnation, e.NeverUsedMs, e.Zxid, e.Data
	if e.Session != 0 {
		d.Session = e.Session
	}
	if e.Box != 0 || e.Kind == KindExpireSession {
		d.Box = e.Box
	}
	if e.Rules != 0 {
		d.Rules = e.Rules
	}
	var decoded Entry
	if err := decoded.Unmarshal(d.Marshal(nil)); err != nil {
		s.tb.Fatal(err)
	}
	o := s.tree.Apply(&decoded)
	s.printf("zxid=%#x %v", o.Zxid, o.Err)
	if o.Session != 0 {
		s.printf(" session=%#x", o.Session)
	}
	for _, id := range o.Closed {
		s.printf(" closed=%#x", id)
	}
	if q := o.OverQuota; q != nil {
		s.printf(" over the %s of %s: %d of %d", q.Limit, q.Path, q.Want, q.Most)
	}
	s.printf("\n")
	for _, r := range o.Results {
		if e.Kind != KindOp {
			s.printf("  %s %v", showOp(r.Type), r.Err)
		} else if r.Err == jute.OK {
			s.printf("  %s", showOp(r.Type))
		} else {
			continue
		}
		if r.Type.IsCreate() && r.Err == jute.OK {
			s.printf(" %s", r.Path)
		}
		if r.Stat != (jute.Stat{}) {
			s.printf(" %s", showStat(r.Stat))
		}
		s.printf("\n")
	}
	for _, c := range o.Changes {
		s.printf("  %v %s\n", c.Kind, c.Path)
	}
	return o
}

func list(words []string) string {
	if len(words) == 0 {
		return "(none)"
	}
	return strings.Join(words, " ")
}

func showOp(op jute.OpCode) string {
	if op == OpEnsure {
		return "ensure"
	}
	return op.String()
}

func parseOps(lines []string) []jute.Op {
	var ops []jute.Op
	for _, line := range lines {
		words := strings.Fields(line)
		plain, keys := args(words[1:])
		op := jute.Op{Version: -1, Path: unescape(plain[0])}
		if v, ok := keys["v"]; ok {
			n, _ := strconv.Atoi(v)
			op.Version = int32(n)
		}
		op.Data = []byte{}
		if v, ok := keys["data"]; ok {
			op.Data = []byte(v)
			if v == "null" {
				op.Data = nil
			}
		}
		op.Flags = int32(map[string]jute.CreateMode{
			"e": jute.Ephemeral, "s": jute.PersistentSequential, "es": jute.EphemeralSequential, "c": jute.Container,
			"t": jute.PersistentTTL, "st": jute.PersistentSequentialTTL, "bad": 9,
		}[keys["mode"]])
		op.ACL = jute.OpenACL()
		if v, ok := keys["acl"]; ok {
			op.ACL = parseACL(v)
		}
		if v, ok := keys["ttl"]; ok {
			op.TTL, _ = strconv.ParseInt(v, 10, 64)
		}
		op.Type = map[string]jute.OpCode{
			"create": jute.OpCreate, "create2": jute.OpCreate2, "container": jute.OpCreateContainer, "ttl": jute.OpCreateTTL,
			"delete": jute.OpDelete, "set": jute.OpSetData, "setacl": jute.OpSetACL, "check": jute.OpCheck, "ensure": OpEnsure,
		}[words[0]]
		if op.Type == jute.OpCreateContainer && op.Flags == 0 {
			op.Flags = int32(jute.Container)
		}
		if op.Type == jute.OpCreateTTL && op.Flags == 0 {
			op.Flags = int32(jute.PersistentTTL)
		}
		if op.Type == OpEnsure && keys["acl"] == "" {
			op.ACL = nil
		}
		ops = append(ops, op)
	}
	return ops
}

// parseACL reads "perms scheme:id" pairs: cdrwa,world:anyone;r,ip:10.0.0.0/8. The word empty is an empty list.
func parseACL(s string) []jute.ACL {
	if s == "empty" {
		return []jute.ACL{}
	}
	var acls []jute.ACL
	for _, part := range strings.Split(s, ";") {
		perms, id, _ := strings.Cut(part, ",")
		a := jute.ACL{ID: parseIDs(id)[0]}
		for _, c := range perms {
			a.Perms |= map[rune]int32{'r': 1, 'w': 2, 'c': 4, 'd': 8, 'a': 16}[c]
		}
		acls = append(acls, a)
	}
	return acls
}

func parseIDs(s string) []jute.ID {
	var ids []jute.ID
	for _, part := range strings.Split(s, ",") {
		if scheme, id, ok := strings.Cut(part, ":"); ok {
			ids = append(ids, jute.ID{Scheme: scheme, ID: id})
		}
	}
	if s != "" && ids == nil {
		ids = []jute.ID{{Scheme: s}}
	}
	return ids
}

func showACL(acls []jute.ACL) string {
	var parts []string
	for _, a := range acls {
		perms := ""
		for i, c := range "rwcda" {
			if a.Perms&(1<<i) != 0 {
				perms += string(c)
			}
		}
		parts = append(parts, perms+","+a.ID.Scheme+":"+a.ID.ID)
	}
	return strings.Join(parts, ";")
}

func showStat(s jute.Stat) string {
	return fmt.Sprintf("c=%#x@%d m=%#x@%d p=%#x v=%d cv=%d av=%d owner=%#x len=%d kids=%d",
		s.Czxid, s.Ctime, s.Mzxid, s.Mtime, s.Pzxid, s.Version, s.Cversion, s.Aversion, s.EphemeralOwner, s.DataLength, s.NumChildren)
}

func orErr(err jute.Code, s string) string {
	if err != jute.OK {
		return err.String()
	}
	return s
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 0, 64)
	return n
}

func unescape(s string) string {
	if s == `""` {
		return ""
	}
	out, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		return s
	}
	return out
}
