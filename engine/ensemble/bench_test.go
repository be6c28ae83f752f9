package ensemble

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// BenchmarkPropose measures acknowledged writes of 100 bytes with that many in flight, flushed for real.
func BenchmarkPropose(b *testing.B) {
	for _, inFlight := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(inFlight), func(b *testing.B) {
			x := openThreads(b, Config{Dir: b.TempDir()})
			x.must(op(0, create("/a", "", jute.Persistent)))
			data := string(make([]byte, 100))
			free := make(chan struct{}, inFlight)
			for range inFlight {
				free <- struct{}{}
			}
			b.ReportAllocs()
			for b.Loop() {
				<-free
				x.Propose(Write{Entry: op(0, set("/a", data))}, func(_ znode.Outcome, err error) {
					if err != nil {
						b.Error(err)
					}
					free <- struct{}{}
				})
			}
			for range inFlight {
				<-free
			}
		})
	}
}

// BenchmarkView measures a look-up of 100 bytes, as getData does it.
func BenchmarkView(b *testing.B) {
	x := openThreads(b, Config{Dir: b.TempDir()})
	x.must(op(0, create("/a", "", jute.Persistent)))
	x.must(op(0, create("/a/b", string(make([]byte, 100)), jute.Persistent)))
	var bytes atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			_ = x.View(func(t *znode.Tree, _ *Watches) {
				data, _, _ := t.Get("/a/b", znode.Access{})
				bytes.Add(int64(len(data)))
			})
		}
	})
}

// BenchmarkRestart opens a tree of a million znodes of 100 bytes.
func BenchmarkRestart(b *testing.B) {
	dir := b.TempDir()
	l := limits.Derive(2 << 30).ZooKeeper
	cfg := Config{Dir: dir, Limits: l}
	x := openThreads(b, cfg)
	data := string(make([]byte, 100))
	const nodes, perMulti = 1_000_000, 500
	free := make(chan struct{}, 32)
	for i := 0; i < nodes; i += perMulti {
		ops := []jute.Op{create(fmt.Sprintf("/p%06d", i), "", jute.Persistent)}
		for n := range perMulti - 1 {
			ops = append(ops, create(fmt.Sprintf("/p%06d/n%d", i, n), data, jute.Persistent))
		}
		free <- struct{}{}
		x.Propose(Write{Entry: znode.Entry{Kind: znode.KindMulti, Flags: znode.FlagInternal, Ops: ops}}, func(out znode.Outcome, err error) {
			if err != nil || out.Err != jute.OK {
				b.Error(err, out.Err)
			}
			<-free
		})
	}
	for range cap(free) {
		free <- struct{}{}
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		began := time.Now()
		x = openThreads(b, cfg)
		b.ReportMetric(time.Since(began).Seconds(), "s/serving")
		b.ReportMetric(float64(x.Status().Nodes), "nodes")
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
