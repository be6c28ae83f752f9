package seglog

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"testing"

	"math/rand/v2"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// disk is a log on the real file system with a real syncer.
func disk(t testing.TB) (*Dir, *Log) {
	t.Helper()
	s := syncer.New(mailbox.NewThreads(clock.System()), syncer.Config{Name: "test"})
	limits := testLimits()
	limits.DirtyBytesMax = 64 << 20
	d, err := OpenDir(DirConfig{Path: filepath.Join(t.TempDir(), "topics"), NodeID: 1, Limits: limits},
		Deps{FS: vfs.OS(), Syncer: s, Random: rand.NewChaCha8([32]byte{})})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.UnflushedBytesMax = 1 << 40
	l, err := d.Create(testTP, ID{1}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, l
}

func flushWait(t testing.TB, l *Log) {
	done := make(chan error, 1)
	l.Flush(false, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	_, l := disk(t)
	b := makeBatch(0, 1, 1, 1000, 1, 1)
	now := clock.System().Now()
	appendOne := func() {
		batch.Stamp(b, l.View().EndOffset(), 1)
		if _, err := l.Append(now, b); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		appendOne()
	}
	if n := testing.AllocsPerRun(2000, appendOne); n != 0 {
		t.Errorf("%v allocations an append", n)
	}
}

// The same on the operating system's files, flushed by threads, with readers beside the writer.
func TestOnRealFiles(t *testing.T) {
	d, l := disk(t)
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			v := l.View()
			s, err := v.Read(max(v.EndOffset()-3, 0), 1<<20, v.EndOffset(), true)
			if err != nil {
				done <- err
				return
			}
			if s.Length > 0 {
				b := make([]byte, s.Length)
				_, err := s.File.ReadAt(b, s.Position)
				scan := batch.Scan(b)
				for scan.Next() {
					if e := batch.VerifyCRC(scan.Bytes()); e != nil {
						err = e
					}
				}
				if err == nil && scan.Tail() != 0 {
					err = fmt.Errorf("%d bytes behind the batches: %v", scan.Tail(), scan.Err())
				}
				if err != nil && err != io.EOF {
					done <- err
					return
				}
			}
			s.Release()
		}
	}()
	now := clock.System().Now()
	for i := range 500 {
		if _, err := l.Append(now, makeBatch(int64(i), 1, 1, 300, int64(i), i)); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			flushWait(t, l)
		}
		if i%200 == 199 {
			if err := l.Roll(now); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(readAll(t, l.View())) != 500 {
		t.Error("batches are missing")
	}
	if err := l.Rest(); err != nil {
		t.Fatal(err)
	}
	if u, err := d.Usage(); err != nil || u.Logs == 0 || u.Total == 0 {
		t.Errorf("%+v %v", u, err)
	}
}

// Idle logs are small: their number is what a box is sized by.
func TestIdleLogMemory(t *testing.T) {
	d, _ := disk(t)
	const n = 100
	now := clock.System().Now()
	cfg := DefaultConfig()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	logs := make([]*Log, n)
	for i := range logs {
		l, err := d.Create(TopicPartition{"idle", int32(i)}, ID{1}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(now, makeBatch(0, 1, 1, 100, 1, 1)); err != nil {
			t.Fatal(err)
		}
		flushWait(t, l)
		if err := l.Rest(); err != nil {
			t.Fatal(err)
		}
		logs[i] = l
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d bytes for each idle log", each)
	if each > 4096 {
		t.Errorf("%d bytes for each idle log", each)
	}
	runtime.KeepAlive(logs)
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, l := disk(b)
			one := makeBatch(0, 1, 1, size, 1, 1)
			now := clock.System().Now()
			b.SetBytes(int64(len(one)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Stamp(one, l.View().EndOffset(), 1)
				if _, err := l.Append(now, one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendFlush(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, l := disk(b)
			one := makeBatch(0, 1, 1, size, 1, 1)
			now := clock.System().Now()
			b.SetBytes(int64(len(one)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Stamp(one, l.View().EndOffset(), 1)
				if _, err := l.Append(now, one); err != nil {
					b.Fatal(err)
				}
				flushWait(b, l)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	_, l := disk(b)
	one := makeBatch(0, 1, 1, 1<<10, 1, 1)
	now := clock.System().Now()
	const n = 100_000
	for i := range n {
		batch.Stamp(one, int64(i), 1)
		if _, err := l.Append(now, one); err != nil {
			b.Fatal(err)
		}
	}
	for name, offset := range map[string]func(i int) int64{
		"tail":   func(int) int64 { return n - 1 },
		"random": func(i int) int64 { return int64(i) * 7919 % n },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v := l.View()
				s, err := v.Read(offset(i), 1<<20, n, true)
				if err != nil || s.Length == 0 {
					b.Fatal(err)
				}
				s.Release()
			}
		})
	}
}
