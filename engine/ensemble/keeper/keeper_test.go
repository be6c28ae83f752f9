package keeper

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print as what they expect")

// fakeTree reaps what it is told to.
type fakeTree struct {
	paths  []string // in order; Reapable gives them in parts of the scan
	timeMs int64
	asked  []string
}

func (f *fakeTree) TimeMs() int64 { return f.timeMs }

func (f *fakeTree) Reapable(cursor uint32, scan, most int, nowMs, neverUsedMs int64) ([]jute.Op, uint32) {
	f.asked = append(f.asked, fmt.Sprintf("cursor=%d most=%d now=%d neverused=%d", cursor, most, nowMs, neverUsedMs))
	var ops []jute.Op
	for i := int(cursor); i < len(f.paths); i++ {
		if len(ops) == most {
			return ops, uint32(i)
		}
		ops = append(ops, jute.Op{Type: jute.OpDeleteContainer, Path: f.paths[i]})
	}
	return ops, 0
}

// TestScripts runs testdata/*.txt: blocks of commands, "----", what they print, an empty line.
func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg := Default()
			cfg.SelfBox = 1
			s := &script{k: New(cfg), cfg: cfg, tree: &fakeTree{}}
			got := s.run(string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s: got\n%s", file, got)
			}
		})
	}
}

type script struct {
	k    *Keeper
	cfg  Config
	tree *fakeTree
	now  clock.Now
	out  strings.Builder
}

func (s *script) run(text string) string {
	var out strings.Builder
	expecting := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case expecting && line != "":
		case expecting:
			expecting = false
			out.WriteString("\n")
		case line == "----":
			out.WriteString("----\n" + s.out.String())
			s.out.Reset()
			expecting = true
		default:
			out.WriteString(line + "\n")
			if line != "" && line[0] != '#' {
				s.command(strings.Fields(line))
			}
		}
	}
	return out.String()
}

func num(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func (s *script) command(w []string) {
	keys := map[string]string{}
	for _, word := range w[1:] {
		if k, v, ok := strings.Cut(word, "="); ok {
			keys[k] = v
		}
	}
	switch w[0] {
	case "at": // milliseconds
		s.now = clock.Now{Mono: time.Duration(num(w[1])) * time.Millisecond, Wall: time.UnixMilli(num(w[1]))}
	case "config":
		if v := keys["most"]; v != "" {
			s.cfg.ProposalsMax = int(num(v))
		}
		if v := keys["perminute"]; v != "" {
			s.cfg.ContainersPerMinute = int(num(v))
		}
		if v := keys["neverused"]; v != "" {
			s.cfg.ContainerNeverUsed = time.Duration(num(v)) * time.Millisecond
		}
		s.k = New(s.cfg)
	case "lead":
		var open []znode.SessionInfo
		for _, word := range w[1:] {
			if strings.Contains(word, ":") {
				open = append(open, info(word))
			}
		}
		s.k.Lead(s.now, open, time.Duration(num(keys["silence"]))*time.Millisecond)
	case "follow":
		s.k.Follow()
	case "open":
		for _, word := range w[1:] {
			s.k.Opened(s.now, info(word))
		}
	case "close":
		s.k.Closed(num(w[1]))
	case "touch":
		fmt.Fprintf(&s.out, "touch %s: %v\n", w[1], s.k.Touch(s.now, num(w[1])))
	case "heard":
		s.k.Heard(s.now, uint64(num(w[1])))
	case "gone":
		s.k.Gone(s.now, uint64(num(w[1])))
	case "reapable":
		s.tree.paths = w[1:]
	case "treetime":
		s.tree.timeMs = num(w[1])
	case "buckets":
		at, ids := s.k.Buckets()
		for i := range at {
			fmt.Fprintf(&s.out, "%v: %v\n", at[i], ids[i])
		}
	case "step":
		s.step()
	default:
		panic(w[0])
	}
}

// info reads id:timeout, id:timeout:box or id:timeout:box:incarnation.
func info(word string) znode.SessionInfo {
	p := append(strings.Split(word, ":"), "0", "0", "0")
	return znode.SessionInfo{ID: num(p[0]), TimeoutMs: int32(num(p[1])), Box: uint64(num(p[2])), Incarnation: uint64(num(p[3]))}
}

func (s *script) step() {
	entries, wake := s.k.Step(s.now, s.tree)
	fmt.Fprintf(&s.out, "at %v, wake at %v\n", s.now.Mono, wake)
	for _, a := range s.tree.asked {
		fmt.Fprintf(&s.out, "  looked: %s\n", a)
	}
	s.tree.asked = nil
	for _, e := range entries {
		switch e.Kind {
		case znode.KindExpireSession:
			fmt.Fprintf(&s.out, "  expire session %d of box %d\n", e.Session, e.Box)
		case znode.KindExpireBox:
			fmt.Fprintf(&s.out, "  expire box %d incarnation %d\n", e.Box, e.Incarnation)
		case znode.KindReap:
			var paths []string
			for _, op := range e.Ops {
				paths = append(paths, op.Path)
			}
			fmt.Fprintf(&s.out, "  reap %s\n", strings.Join(paths, " "))
		}
		if e.Flags != znode.FlagInternal {
			fmt.Fprintf(&s.out, "  not internal: %+v\n", e)
		}
	}
}

// A session that is touched within its timeout never expires; one that is not does, at the earliest after its timeout
// and at the latest a tick later, and once it was due no touch helps.
func TestExpiryIsInTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Default()
		k := New(cfg)
		now := clock.Now{Mono: time.Duration(rapid.Int64Range(1, 5000).Draw(rt, "start")) * time.Millisecond}
		k.Lead(now, nil, 0)
		heard := map[int64]time.Duration{}
		gone := map[int64]bool{}
		const timeout = 4 * time.Second
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			now.Mono += time.Duration(rapid.Int64Range(1, 900).Draw(rt, "pass")) * time.Millisecond
			id := rapid.Int64Range(1, 5).Draw(rt, "id")
			if _, open := heard[id]; !open {
				k.Opened(now, znode.SessionInfo{ID: id, TimeoutMs: 4000})
				heard[id] = now.Mono
			} else if rapid.Bool().Draw(rt, "touch") {
				if k.Touch(now, id) == gone[id] {
					rt.Fatalf("touch of %d at %v: expired %v", id, now.Mono, gone[id])
				}
				heard[id] = now.Mono
			}
			entries, _ := k.Step(now, &fakeTree{})
			for _, e := range entries {
				silent := now.Mono - heard[e.Session]
				if !gone[e.Session] && silent < timeout {
					rt.Fatalf("session %d expired after %v", e.Session, silent)
				}
				gone[e.Session] = true
			}
			for id, at := range heard {
				if !gone[id] && now.Mono-at > timeout+cfg.Tick {
					rt.Fatalf("session %d is silent for %v", id, now.Mono-at)
				}
				if gone[id] && rapid.Bool().Draw(rt, "close") {
					k.Closed(id)
					delete(heard, id)
					delete(gone, id)
				}
			}
		}
	})
}

func TestDigests(t *testing.T) {
	var d Digests
	if _, ok := d.At(0); ok {
		t.Error("an empty note is remembered")
	}
	if _, _, ok := d.Last(); ok {
		t.Error("an empty note is remembered")
	}
	for i := uint64(1); i <= 100; i++ {
		if !DigestDue(i * DigestEvery) {
			t.Fatal("not due")
		}
		d.Note(i*DigestEvery, i)
	}
	if index, digest, ok := d.Last(); index != 100*DigestEvery || digest != 100 || !ok {
		t.Errorf("last: %d, %d, %v", index, digest, ok)
	}
	for i, want := range map[uint64]bool{100: true, 37: true, 36: false, 101: false} {
		if got, ok := d.At(i * DigestEvery); ok != want || ok && got != i {
			t.Errorf("index %d: %d, %v, want %v", i*DigestEvery, got, ok, want)
		}
	}
	if DigestDue(DigestEvery + 1) {
		t.Error("a digest is due that is not")
	}
}

// Box 1 leads; boxes 1 to 5 vote and box 6 observes, or as many of them as the row says.
func TestPoll(t *testing.T) {
	const at = 3 * DigestEvery
	for name, row := range map[string]struct {
		voters uint64
		said   map[uint64]uint64
		after  time.Duration
		want   string
	}{
		"all agree":                        {3, map[uint64]uint64{1: 7, 2: 7, 3: 7, 6: 7}, PollWait, "[]"},
		"one differs":                      {3, map[uint64]uint64{1: 7, 2: 8, 3: 7}, 0, "[{2 3072 7}]"},
		"one differs, one is away":         {3, map[uint64]uint64{1: 7, 2: 8}, PollWait - 1, "[]"},
		"one differs, one stays away":      {3, map[uint64]uint64{1: 7, 2: 8}, PollWait, "[{2 3072 7}]"},
		"the leader differs":               {3, map[uint64]uint64{1: 7, 2: 8, 3: 8}, 0, "[{1 3072 8}]"},
		"the leader differs from one":      {5, map[uint64]uint64{1: 7, 2: 8, 3: 8}, 0, "[]"},
		"the leader differs from most":     {5, map[uint64]uint64{1: 7, 2: 8, 3: 8, 4: 8}, 0, "[{1 3072 8}]"},
		"all differ":                       {3, map[uint64]uint64{1: 7, 2: 8, 3: 9}, 0, "[{2 3072 7} {3 3072 7}]"},
		"an observer differs":              {3, map[uint64]uint64{1: 7, 2: 7, 6: 9}, 0, "[{6 3072 7}]"},
		"observers are no majority":        {1, map[uint64]uint64{1: 7, 2: 8, 3: 8, 6: 8}, 0, "[{2 3072 7} {3 3072 7} {6 3072 7}]"},
		"the leader has not said anything": {3, map[uint64]uint64{2: 8, 3: 8}, PollWait, "[]"},
		"two voters, one each":             {2, map[uint64]uint64{1: 7, 2: 8}, 0, "[{2 3072 7}]"},
	} {
		t.Run(name, func(t *testing.T) {
			var p Poll
			var voters []uint64
			for box := uint64(1); box <= row.voters; box++ {
				voters = append(voters, box)
			}
			for box, digest := range row.said {
				p.Say(time.Hour, at, box, digest)
			}
			if got := fmt.Sprint(p.Step(time.Hour+row.after, 1, voters)); got != row.want {
				t.Errorf("found %s, want %s", got, row.want)
			}
			if got := p.Step(2*time.Hour, 1, voters); row.want != "[]" && len(got) > 0 {
				t.Errorf("found again: %v", got)
			}
		})
	}

	// Who speaks late is judged by what was decided; an index that is long past is not looked at any more.
	var p Poll
	voters := []uint64{1, 2, 3}
	for box := uint64(1); box <= 2; box++ {
		p.Say(0, at, box, 7)
		p.Say(0, at+DigestEvery*digestsKept, box, 70)
	}
	p.Step(0, 1, voters)
	p.Say(0, at, 3, 9)
	if got := p.Step(0, 1, voters); len(got) != 0 {
		t.Errorf("an old index: %v", got)
	}
	p.Say(0, at+DigestEvery*digestsKept, 3, 9)
	if got := p.Step(0, 1, voters); len(got) != 1 || got[0].Right != 70 {
		t.Errorf("late: %v", got)
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for i, spoil := range []func(*Config){
		func(c *Config) { c.Tick = 0 }, func(c *Config) { c.ContainerCheckInterval = 0 }, func(c *Config) { c.ContainersPerMinute = 0 },
		func(c *Config) { c.ContainerNeverUsed = -1 }, func(c *Config) { c.BoxLease = 0 }, func(c *Config) { c.ProposalsMax = 0 },
	} {
		c := Default()
		spoil(&c)
		if c.Validate() == nil {
			t.Error("taken:", i)
		}
	}
}
