package ensemble

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// watchScript runs one script of testdata/watches.txt on a tree and its watches. Each line is a command and, behind
// "=>", what it must say: for a write the events in the order of the connections' names, for a question its answer.
type watchScript struct {
	t       *testing.T
	tree    *znode.Tree
	watches *Watches
	conns   map[string]*outbox
}

func newWatchScript(t *testing.T) *watchScript {
	return &watchScript{t: t, tree: znode.New(), watches: newWatches(10, 6), conns: map[string]*outbox{}}
}

func (s *watchScript) conn(name string) *outbox {
	if s.conns[name] == nil {
		s.conns[name] = &outbox{}
	}
	return s.conns[name]
}

// apply applies ops as the owner does, and says what the connections were told.
func (s *watchScript) apply(ops ...jute.Op) string {
	out := s.tree.Apply(&znode.Entry{Kind: znode.KindMulti, Flags: znode.FlagInternal, Ops: ops})
	for i := range out.Changes {
		s.watches.fire(&out.Changes[i])
	}
	if out.Err != jute.OK {
		return out.Err.String()
	}
	return s.events()
}

func (s *watchScript) events() string {
	var names []string
	for name := range s.conns {
		names = append(names, name)
	}
	slices.Sort(names)
	var said []string
	for _, name := range names {
		if told := s.conns[name].take(); told != "" {
			said = append(said, name+": "+told)
		}
	}
	return strings.Join(said, "; ")
}

var kinds = map[string]WatchKind{"data": WatchData, "children": WatchChildren, "persistent": WatchPersistent, "recursive": WatchRecursive}

var types = map[string]jute.WatcherType{
	"children": jute.WatcherChildren, "data": jute.WatcherData, "any": jute.WatcherAny,
	"persistent": jute.WatcherPersistent, "recursive": jute.WatcherPersistentRecursive,
}

func (s *watchScript) run(words []string) string {
	switch words[0] {
	case "create":
		o := create(words[1], "", jute.Persistent)
		if len(words) > 2 { // readable only by this user
			o.ACL = []jute.ACL{{Perms: jute.PermRead, ID: jute.ID{Scheme: "digest", ID: words[2]}}}
		}
		return s.apply(o)
	case "set":
		return s.apply(set(words[1], "x"))
	case "setacl": // path user
		return s.apply(jute.Op{Type: jute.OpSetACL, Path: words[1], Version: -1,
			ACL: []jute.ACL{{Perms: jute.PermRead, ID: jute.ID{Scheme: "digest", ID: words[2]}}}})
	case "delete":
		return s.apply(jute.Op{Type: jute.OpDelete, Path: words[1], Version: -1})
	case "watch": // conn kind path
		if err := s.watches.Add(s.conn(words[1]), words[3], kinds[words[2]]); err != nil {
			if errors.Is(err, ErrFull) {
				return "full"
			}
			return err.Error()
		}
		return ""
	case "is": // conn user
		s.conn(words[1]).ids = []jute.ID{{Scheme: "digest", ID: words[2]}}
		return ""
	case "remove", "has": // conn type path
		f := s.watches.Remove
		if words[0] == "has" {
			f = s.watches.Has
		}
		return strconv.FormatBool(f(s.conn(words[1]), words[3], types[words[2]]))
	case "rearm": // conn zxid-back list=path ...
		back, _ := strconv.ParseInt(words[2], 10, 64)
		r := &jute.SetWatches2Request{}
		r.RelativeZxid = s.tree.Zxid() - back
		for _, w := range words[3:] {
			list, path, _ := strings.Cut(w, "=")
			to := map[string]*[]string{"data": &r.Data, "exist": &r.Exist, "child": &r.Child,
				"persistent": &r.Persistent, "recursive": &r.PersistentRecursive}[list]
			*to = append(*to, path)
		}
		if err := s.watches.Rearm(s.tree, s.conn(words[1]), r); err != nil {
			return err.Error()
		}
		return s.events()
	case "gone":
		s.watches.removeAll(s.conn(words[1]))
		return ""
	case "counts":
		c := s.watches.Counts()
		return fmt.Sprintf("%d connections, %d paths, %d watches", c.Connections, c.Paths, c.Watches)
	}
	s.t.Fatalf("unknown command %q", words)
	return ""
}

func TestWatchScripts(t *testing.T) {
	b, err := os.ReadFile("testdata/watches.txt")
	if err != nil {
		t.Fatal(err)
	}
	var s *watchScript
	lines := 0
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "#"):
			s = newWatchScript(t)
			continue
		}
		lines++
		command, want, _ := strings.Cut(line, "=>")
		if got := s.run(strings.Fields(command)); got != strings.TrimSpace(want) {
			t.Errorf("line %d: %s=> %s", n+1, command, got)
		}
	}
	if lines < 40 {
		t.Fatalf("only %d lines were run", lines)
	}
}

func TestAConnectionThatDoesNotReadIsKilled(t *testing.T) {
	s := newWatchScript(t)
	s.conn("a").full = true
	s.run([]string{"watch", "a", "persistent", "/a"})
	s.run([]string{"create", "/a"})
	if !errors.Is(s.conn("a").death(), ErrFull) {
		t.Fatalf("death: %v", s.conn("a").death())
	}
}

func BenchmarkFire(b *testing.B) {
	w := newWatches(1<<20, 1<<20)
	for i := range 10000 {
		_ = w.Add(&outbox{}, fmt.Sprint("/", i), WatchPersistent)
	}
	c := znode.Change{Kind: jute.EventNodeDataChanged, Path: "/none"}
	b.ReportAllocs()
	for b.Loop() {
		w.fire(&c)
	}
}
