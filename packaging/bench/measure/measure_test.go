package measure

import (
	"os"
	"testing"
	"time"
)

func TestFigures(t *testing.T) {
	f := Figures{4, 1, 3}
	if f.Median() != 3 || f.Min() != 1 || f.Max() != 4 {
		t.Fatalf("median %v, min %v, max %v", f.Median(), f.Min(), f.Max())
	}
	if m := (Figures{4, 1, 3, 2}).Median(); m != 2.5 {
		t.Fatalf("median of four %v", m)
	}
	if r := f.Ratios(Figures{2, 2, 2}); r[0] != 2 || r[1] != 0.5 {
		t.Fatalf("ratios %v", r)
	}
}

func TestOwnProcess(t *testing.T) {
	if _, err := CPU(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	m, err := ResidentMemory(os.Getpid())
	if err != nil || m.RSS < 1<<20 || m.Anon+m.File > m.RSS || m.PSS < 1<<19 || m.Peak < m.RSS {
		t.Fatalf("memory %+v, error %v", m, err)
	}
	if _, err := field("a: 1\nbc: 7 kB\n", "bc:"); err != nil {
		t.Fatal(err)
	}
	if _, err := field("a: 1\n", "b:"); err == nil {
		t.Fatal("a missing field passed")
	}
}

func TestOwnWakeUpsAndOpenFiles(t *testing.T) {
	before, err := ContextSwitches(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		time.Sleep(time.Millisecond)
	}
	if after, err := ContextSwitches(os.Getpid()); err != nil || after < before+10 {
		t.Fatalf("%d and %d context switches around 20 sleeps, error %v", before, after, err)
	}
	part := t.TempDir() + "/"
	for want := range 3 {
		if n, err := OpenBelow(os.Getpid(), part); err != nil || n != want {
			t.Fatalf("%d open files of %d, error %v", n, want, err)
		}
		f, err := os.Create(part + string(rune('a'+want)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if _, err := ContextSwitches(1 << 30); err == nil {
		t.Fatal("a process that is not there passed")
	}
}

func TestCallsAreCountedOneByOne(t *testing.T) {
	if _, err := os.Stat("/proc/self/io"); err != nil {
		t.Skip("this kernel keeps no account of calls")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	before, err := Calls(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := w.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := Calls(os.Getpid()); err != nil || after < before+200 || after > before+300 {
		t.Fatalf("%d calls after %d for 200, error %v", after, before, err)
	}
	if _, err := Calls(1 << 30); err == nil {
		t.Fatal("a process that is not there passed")
	}
}
