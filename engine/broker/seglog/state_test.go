package seglog

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"cairn/platform/vfs"
)

func TestProducerState(t *testing.T) {
	mem := vfs.NewMem()
	r := mustRig(t, mem)
	l := r.create()
	save := func() {
		t.Helper()
		end := l.View().EndOffset()
		if err := l.SaveProducerState(end, []byte(fmt.Sprint("at ", end))); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		r.fill(l, 1, 300)
		save()
	}
	if offset, blob, ok, err := l.ProducerState(math.MaxInt64); err != nil || !ok || offset != 10 || string(blob) != "at 10" {
		t.Fatalf("%d %q %v %v", offset, blob, ok, err)
	}
	if offset, _, ok, _ := l.ProducerState(5); !ok || offset > 5 {
		t.Fatalf("%d %v", offset, ok)
	}
	if err := l.Truncate(7); err != nil {
		t.Fatal(err)
	}
	if offset, _, ok, _ := l.ProducerState(math.MaxInt64); !ok || offset > 7 {
		t.Fatalf("state at %d after truncation to 7", offset)
	}
	r.fill(l, 1, 300)
	save()
	r.stop(l)
	again := mustRig(t, mem)
	l = again.open()
	if offset, blob, ok, err := l.ProducerState(math.MaxInt64); err != nil || !ok || offset != 8 || string(blob) != "at 8" {
		t.Fatalf("%d %q %v %v", offset, blob, ok, err)
	}
}

// No segment goes before a snapshot stands where the next one begins, or behind; those from before go with it.
func TestTheStateStandsForSegmentsThatGo(t *testing.T) {
	r := mustRig(t, vfs.NewMem())
	l := r.create()
	asked := 0
	l.KeepState(func() []byte {
		asked++
		return fmt.Append(nil, "at ", l.View().EndOffset())
	})
	for _, end := range []int64{3, 6, 9} {
		r.fill(l, 3, 50)
		r.mustFlush(l)
		if end == 3 {
			if err := l.SaveProducerState(1, []byte("old")); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := l.TrimTo(r.clk.Now(), end, end); err != nil || out.StartOffset != end { // all of it
			t.Fatalf("%+v, %v", out, err)
		}
		if offset, blob, ok, err := l.ProducerState(end); err != nil || !ok || offset != end || string(blob) != fmt.Sprint("at ", end) {
			t.Fatalf("%d %q %v %v", offset, blob, ok, err)
		}
		if offset, _, ok, _ := l.ProducerState(end - 1); ok {
			t.Fatalf("state at %d, the log begins at %d", offset, end)
		}
	}
	r.fill(l, 3, 50)
	if err := errors.Join(l.Roll(r.clk.Now()), l.SaveProducerState(12, []byte("at 12"))); err != nil {
		t.Fatal(err)
	}
	r.mustFlush(l)
	if out, err := l.TrimTo(r.clk.Now(), 12, 12); err != nil || out.StartOffset != 12 || asked != 3 {
		t.Fatalf("%+v, %v, asked %d times", out, err, asked)
	}
}
