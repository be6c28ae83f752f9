package vfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// outcomes runs many crashes of one state and counts what look says about each.
func outcomes(m *Mem, look func(*Mem) string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(400) {
		seen[look(m.Crash(rng(seed)))]++
	}
	return seen
}

func wantOutcomes(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never %q", w)
		}
		delete(seen, w)
	}
	for w, n := range seen {
		t.Errorf("%d times %q", n, w)
	}
}

// look renders the names and contents of files in the root.
func look(t *testing.T) func(*Mem) string {
	return func(m *Mem) string {
		infos, err := m.List("/")
		must(t, err)
		var all []string
		for _, info := range infos {
			if info.IsDir {
				sub, err := m.List(info.Name)
				must(t, err)
				var names []string
				for _, s := range sub {
					names = append(names, s.Name)
				}
				all = append(all, info.Name+"/{"+strings.Join(names, ",")+"}")
				continue
			}
			all = append(all, info.Name+"="+content(t, m, info.Name))
		}
		return strings.Join(all, " ")
	}
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	put(t, f, "synced", 0)
	must(t, f.Sync())
	wantContent(t, m.CrashStrict(), "a", "-") // its name is not durable
	must(t, m.SyncDir("/"))
	put(t, f, "SYNCED and more", 0)
	wantContent(t, m.CrashStrict(), "a", "synced")
	wantContent(t, m.CrashAll(), "a", "SYNCED and more")
	wantContent(t, m, "a", "SYNCED and more")
	must(t, f.Sync())
	wantOutcomes(t, outcomes(m, look(t)), "a=SYNCED and more")

	again := m.CrashStrict().CrashStrict()
	wantContent(t, again, "a", "SYNCED and more")
}

func TestCrashTearsWritesAtSectors(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	must(t, m.SyncDir("/"))
	sector := func(c string) string { return strings.Repeat(c, memSector) }
	put(t, f, sector("1")+sector("2"), 0)
	seen := outcomes(m, func(m *Mem) string {
		s := content(t, m, "a")
		short := ""
		for ; len(s) >= memSector; s = s[memSector:] {
			short += s[:1]
			if strings.Trim(s[:memSector], s[:1]) != "" {
				t.Fatal("a sector is torn")
			}
		}
		if s != "" {
			t.Fatalf("%d odd bytes", len(s))
		}
		return strings.ReplaceAll(short, "\x00", "0")
	})
	wantOutcomes(t, seen, "", "0", "1", "10", "02", "12", "00")
}

// A sector that was written twice is in one of its states, never in a mix that did not exist.
func TestCrashSectorStates(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	put(t, f, "..", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	put(t, f, "x", 0)
	put(t, f, "y", 1)
	wantOutcomes(t, outcomes(m, look(t)), "a=..", "a=x.", "a=xy")
}

func TestCrashTruncate(t *testing.T) {
	m := NewMem()
	f := open(t, m, "a", Create)
	put(t, f, "0123", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	must(t, f.Truncate(2))
	put(t, f, "xy", 2)
	wantOutcomes(t, outcomes(m, look(t)), "a=0123", "a=01", "a=01xy", "a=01\x00\x00")
	must(t, f.Sync())
	wantOutcomes(t, outcomes(m, look(t)), "a=01xy")
	must(t, f.Truncate(1))
	put(t, f, "z", 3)
	wantOutcomes(t, outcomes(m, look(t)), "a=01xy", "a=0", "a=0\x00\x00z", "a=0\x00\x00\x00")
}

func TestCrashNamesInOrder(t *testing.T) {
	m := NewMem()
	put(t, open(t, m, "a", Create), "", 0)
	must(t, m.Rename("a", "b"))
	must(t, m.MkdirAll("d"))
	must(t, m.Remove("b"))
	wantOutcomes(t, outcomes(m, look(t)), "", "a=", "b=", "b= d/{}", "d/{}")
	must(t, m.SyncDir("/"))
	wantOutcomes(t, outcomes(m, look(t)), "d/{}")
}

func TestCrashRenameReplaces(t *testing.T) {
	m := NewMem()
	put(t, open(t, m, "a", Create), "old", 0)
	f := open(t, m, "new", Create)
	put(t, f, "new", 0)
	must(t, f.Sync())
	must(t, open(t, m, "a", ReadOnly).Sync())
	must(t, m.SyncDir("/"))
	must(t, m.Rename("new", "a"))
	wantOutcomes(t, outcomes(m, look(t)), "a=old new=new", "a=new")
	wantContent(t, m.CrashStrict(), "a", "old")
}

// A rename between directories happens on both sides or on neither, and a sync of one side makes both durable.
func TestCrashRenameBetweenDirectories(t *testing.T) {
	for _, synced := range []string{"", "p", "q"} {
		m := NewMem()
		must(t, m.MkdirAll("p"))
		must(t, m.MkdirAll("q"))
		must(t, m.SyncDir("/"))
		must(t, open(t, m, "p/f", Create).Sync())
		must(t, m.SyncDir("p"))
		must(t, open(t, m, "q/g", Create).Sync())
		must(t, m.Rename("p/f", "q/f"))
		if synced == "" {
			wantOutcomes(t, outcomes(m, look(t)), "p/{f} q/{}", "p/{f} q/{g}", "p/{} q/{f,g}")
			continue
		}
		must(t, m.SyncDir(synced))
		wantOutcomes(t, outcomes(m, look(t)), "p/{} q/{f,g}")
	}
}

func TestCrashAtSync(t *testing.T) {
	script := func(m *Mem) error {
		f, err := m.Open("a", Create)
		if err != nil {
			return err
		}
		for i := range 3 {
			if _, err := f.WriteAt([]byte{byte('0' + i)}, int64(i)); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			if err := m.SyncDir("/"); err != nil {
				return err
			}
		}
		return f.Close()
	}
	whole := NewMem()
	must(t, script(whole))
	if whole.Syncs() != 6 {
		t.Fatalf("%d syncs", whole.Syncs())
	}
	want := []string{"-", "-", "0", "01", "01", "012"}
	for n := 1; n <= 6; n++ {
		m := NewMem()
		m.CrashAtSync(n)
		wantErr(t, script(m), ErrCrashed)
		if !m.Crashed() || m.Syncs() != n {
			t.Fatalf("crashed %v after %d syncs", m.Crashed(), m.Syncs())
		}
		for op, err := range map[string]error{
			"remove": m.Remove("a"), "mkdir": m.MkdirAll("d"), "rename": m.Rename("a", "b"), "sync": m.SyncDir("/"),
		} {
			if err == nil {
				t.Errorf("%s worked without power", op)
			}
			wantErr(t, err, ErrCrashed)
		}
		wantContent(t, m.CrashStrict(), "a", want[n-1])
	}
}

func TestOnSyncAndPowerOff(t *testing.T) {
	m := NewMem()
	var calls []string
	m.OnSync(func(n int, name string) {
		calls = append(calls, fmt.Sprint(n, " ", name))
		if n == 2 {
			m.PowerOff()
		}
	})
	f := open(t, m, "a", Create)
	must(t, f.Sync())
	wantErr(t, m.SyncDir("/"), ErrCrashed)
	if got := strings.Join(calls, ","); got != "1 a,2 /" {
		t.Fatal(got)
	}
	_, err := f.Map(1)
	wantErr(t, err, ErrCrashed)
	wantContent(t, m.CrashStrict(), "a", "-")
}

// Property: a crash keeps what was synced and invents nothing; equal seeds give equal results.
func TestCrashProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMem()
		f, err := m.Open("a", Create)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		// Appends only: then every byte of a crashed file is the appended one or, behind what was synced, zero.
		var written []byte
		synced := 0
		for i := range rapid.IntRange(0, 12).Draw(t, "appends") {
			b := bytes.Repeat([]byte{byte(i + 1)}, rapid.IntRange(1, 3000).Draw(t, "length"))
			if _, err := f.WriteAt(b, int64(len(written))); err != nil {
				t.Fatal(err)
			}
			written = append(written, b...)
			if rapid.IntRange(0, 3).Draw(t, "sync") == 0 {
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				synced = len(written)
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		got := read(t, m.Crash(rng(seed)))
		if !bytes.Equal(got, read(t, m.Crash(rng(seed)))) {
			t.Fatal("two crashes with one seed differ")
		}
		if len(got) < synced || len(got) > len(written) {
			t.Fatalf("length %d, synced %d, written %d", len(got), synced, len(written))
		}
		for i, b := range got {
			if b != written[i] && (b != 0 || i < synced) {
				t.Fatalf("byte %d of %d is %d, written %d, synced up to %d", i, len(got), b, written[i], synced)
			}
		}
		if !bytes.Equal(read(t, m.CrashStrict()), written[:synced]) {
			t.Fatal("CrashStrict is not what was synced")
		}
		if !bytes.Equal(read(t, m.CrashAll()), written) {
			t.Fatal("CrashAll is not what was written")
		}
	})
}

func read(t *rapid.T, m *Mem) []byte {
	f, err := m.Open("a", ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Property: files on Mem and on a plain model agree for any sequence of writes and truncations, before and after a
// crash that loses nothing.
func TestMemAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMem()
		f, err := m.Open("a", Create)
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := f.Map(1 << 14)
		if err != nil {
			t.Fatal(err)
		}
		var model []byte
		for range rapid.IntRange(1, 20).Draw(t, "operations") {
			at := rapid.IntRange(0, 9000).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				err = f.Truncate(int64(at))
				model = resize(model, int64(at))
			case 1:
				err = f.Sync()
			default:
				b := bytes.Repeat([]byte{byte(at)}, rapid.IntRange(1, 5000).Draw(t, "length"))
				_, err = f.WriteAt(b, int64(at))
				if end := at + len(b); end > len(model) {
					model = resize(model, int64(end))
				}
				copy(model[at:], b)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, m); !bytes.Equal(got, model) {
				t.Fatalf("%d bytes differ from the model's %d", len(got), len(model))
			}
			if !bytes.Equal(read(t, m.CrashAll()), model) {
				t.Fatal("after CrashAll the file differs from the model")
			}
			err = mapping.Read(func(b []byte) {
				if !bytes.Equal(b[:len(model)], model) {
					t.Fatal("the mapping differs from the model")
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
