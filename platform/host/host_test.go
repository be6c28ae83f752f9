package host

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheSmallestLimitOnTheWayUpCounts(t *testing.T) {
	for name, c := range map[string]struct {
		self  string
		files map[string]string
		want  uint64
	}{
		"version 2, limit at the parent": {"0::/a/b\n", map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "1000\n"}, 1000},
		"version 2, both":                {"0::/a/b\n", map[string]string{"a/b/memory.max": "900\n", "a/memory.max": "1000\n"}, 900},
		"version 2, none":                {"0::/\n", map[string]string{"memory.max": "max\n"}, 0},
		"version 1":                      {"5:cpu:/x\n4:memory:/x\n", map[string]string{"memory/x/memory.limit_in_bytes": "700\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 700},
		"nonsense":                       {"what\n", nil, 0},
	} {
		dir := t.TempDir()
		write(t, dir+"/self", c.self)
		for f, text := range c.files {
			write(t, filepath.Join(dir, "fs", f), text)
		}
		got, ok := cgroupMemory(dir+"/self", dir+"/fs")
		if got != c.want || ok != (c.want > 0) {
			t.Errorf("%s: %d %v, want %d", name, got, ok, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	f, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if f.MemoryBytes == 0 || f.CPUs == 0 {
		t.Fatalf("%+v", f)
	}
}
