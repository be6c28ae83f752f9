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
	if d.Compare(0, 0) != DigestUnknown || d.Compare(-DigestEvery, 0) != DigestUnknown {
		t.Error("an empty note is compared")
	}
	for i := int64(1); i <= 100; i++ {
		if !DigestDue(i * DigestEvery) {
			t.Fatal("not due")
		}
		d.Note(i*DigestEvery, uint64(i))
	}
	for zxid, want := range map[int64]Verdict{
		100 * DigestEvery: DigestSame, 37 * DigestEvery: DigestSame, 36 * DigestEvery: DigestUnknown, 101 * DigestEvery: DigestUnknown,
	} {
		if got := d.Compare(zxid, uint64(zxid/DigestEvery)); got != want {
			t.Errorf("zxid %d: %v, want %v", zxid, got, want)
		}
	}
	if d.Compare(50*DigestEvery, 7) != DigestDiffers || DigestDue(DigestEvery+1) {
		t.Error("a difference is not seen, or a digest is due that is not")
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
