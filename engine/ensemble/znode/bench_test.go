package znode

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"cairn/engine/ensemble/jute"
)

// fill makes n nodes of 100 bytes of data, a thousand to a parent.
func fill(tb testing.TB, n int) (*Tree, *Entry) {
	tree, as := open()
	data := make([]byte, 100)
	for i := range n {
		if i%1000 == 0 {
			if o := create(tree, as, fmt.Sprintf("/%d", i/1000)); o.Err != jute.OK {
				tb.Fatal(o.Err)
			}
		}
		as.Ops = []jute.Op{{Type: jute.OpCreate, Path: fmt.Sprintf("/%d/node%06d", i/1000, i), ACL: jute.OpenACL(), Data: data}}
		if o := tree.Apply(as); o.Err != jute.OK {
			tb.Fatal(o.Err)
		}
	}
	return tree, as
}

// TestMemoryPerNode measures what a node of 100 bytes takes on the heap, and that Bytes says about as much. CAIRN_NODES
// sets their number.
func TestMemoryPerNode(t *testing.T) {
	n := 100_000
	if s := os.Getenv("CAIRN_NODES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tree, _ := fill(t, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
	said := float64(tree.Bytes()) / float64(n)
	t.Logf("%d nodes: %.0f bytes each on the heap, %.0f by Bytes; whole process %d MiB", n, per, said, after.Sys>>20)
	if per > 280 || said < 0.85*per || said > 1.15*per {
		t.Errorf("a node takes %.0f bytes, at most 280; Bytes says %.0f", per, said)
	}
	runtime.KeepAlive(tree)
}

func BenchmarkApplyCreate(b *testing.B) {
	tree, as := fill(b, 1000)
	data := make([]byte, 100)
	op := jute.Op{Type: jute.OpCreate, ACL: jute.OpenACL(), Data: data}
	as.Ops = []jute.Op{op}
	paths := make([]string, b.N)
	for i := range paths {
		paths[i] = "/0/bench" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		as.Ops[0].Path = paths[i]
		if o := tree.Apply(as); o.Err != jute.OK {
			b.Fatal(o.Err)
		}
	}
}

func BenchmarkApplySet(b *testing.B) {
	tree, as := fill(b, 100_000)
	as.Ops = []jute.Op{{Type: jute.OpSetData, Path: "/50/node050123", Data: make([]byte, 100), Version: -1}}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if o := tree.Apply(as); o.Err != jute.OK {
			b.Fatal(o.Err)
		}
	}
}

func BenchmarkApplyMulti(b *testing.B) {
	tree, as := fill(b, 1000)
	as.Kind = KindMulti
	as.Ops = nil
	for i := range 100 {
		as.Ops = append(as.Ops, jute.Op{Type: jute.OpSetData, Path: fmt.Sprintf("/0/node%06d", i), Data: make([]byte, 100), Version: -1})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if o := tree.Apply(as); o.Err != jute.OK {
			b.Fatal(o.Err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	tree, _ := fill(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, _, err := tree.Get("/50/node050123", Access{}); err != jute.OK {
			b.Fatal(i, err)
		}
	}
}

func BenchmarkUnmarshalApply(b *testing.B) {
	tree, as := fill(b, 100_000)
	as.Ops = []jute.Op{{Type: jute.OpSetData, Path: "/50/node050123", Data: make([]byte, 100), Version: -1}}
	raw := as.Marshal(nil)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		var e Entry
		if err := e.Unmarshal(raw); err != nil {
			b.Fatal(err)
		}
		tree.Apply(&e)
	}
}

func BenchmarkCutAndRestore(b *testing.B) {
	tree, _ := fill(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		c, err := tree.Cut()
		if err != nil {
			b.Fatal(err)
		}
		readCut(b, c, 256<<10)
	}
}
