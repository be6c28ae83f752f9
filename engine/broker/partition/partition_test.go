package partition

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cairn/engine/broker/batch"
)

func data(base int64, pid int64, epoch int16, seq, n int32) *batch.Header {
	return &batch.Header{BaseOffset: base, ProducerID: pid, ProducerEpoch: epoch, BaseSequence: seq,
		LastOffsetDelta: n - 1, Count: n, MaxTimestamp: 1000 + base}
}

// Behaviour 23: the last five batches are known as retries; gaps, older epochs and wrong beginnings are refused.
func TestBehaviour23Idempotence(t *testing.T) {
	var s Producers
	at := int64(0)
	for i := range int32(7) {
		h := data(at, 7, 0, i*10, 10)
		if _, dup, err := s.Check(h); dup || err != nil {
			t.Fatalf("batch %d: duplicate %v, %v", i, dup, err)
		}
		s.Appended(h)
		at += 10
	}
	for i := int32(2); i < 7; i++ {
		b, dup, err := s.Check(data(0, 7, 0, i*10, 10))
		if err != nil || !dup || b.BaseOffset() != int64(i)*10 || b.Timestamp != 1000+int64(i)*10 {
			t.Fatalf("retry of batch %d: %+v, duplicate %v, %v", i, b, dup, err)
		}
	}
	for name, c := range map[string]struct {
		h    *batch.Header
		want error
	}{
		"older than the remembered five":   {data(0, 7, 0, 10, 10), ErrOutOfOrderSequence},
		"gap":                              {data(0, 7, 0, 80, 10), ErrOutOfOrderSequence},
		"same begin, other length":         {data(0, 7, 0, 60, 9), ErrOutOfOrderSequence},
		"new epoch not at 0":               {data(0, 7, 1, 70, 10), ErrOutOfOrderSequence},
		"unknown producer begins anywhere": {data(0, 8, 3, 123, 1), nil},
		"new epoch at 0":                   {data(0, 7, 1, 0, 1), nil},
		"no producer id":                   {data(0, -1, -1, -1, 1), nil},
	} {
		if _, dup, err := s.Check(c.h); dup || !errors.Is(err, c.want) {
			t.Errorf("%s: duplicate %v, %v, want %v", name, dup, err, c.want)
		}
	}
	s.Appended(data(at, 7, 1, 0, 1))
	if _, _, err := s.Check(data(0, 7, 0, 70, 10)); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Errorf("older epoch: %v", err)
	}
	if _, dup, _ := s.Check(data(0, 7, 0, 60, 10)); dup {
		t.Error("a batch of an older epoch passed as a retry")
	}
}

func TestSequencesWrap(t *testing.T) {
	var s Producers
	s.Appended(data(0, 1, 0, math.MaxInt32-4, 10)) // MaxInt32-4 … MaxInt32, 0 … 4
	if got := s.Get(1).LastSequence(); got != 4 {
		t.Fatalf("last sequence %d, want 4", got)
	}
	if got := s.Get(1).Batches()[0].FirstSequence(); got != math.MaxInt32-4 {
		t.Fatalf("first sequence %d", got)
	}
	if _, dup, err := s.Check(data(0, 1, 0, math.MaxInt32-4, 10)); !dup || err != nil {
		t.Fatalf("retry over the wrap: %v %v", dup, err)
	}
	if _, _, err := s.Check(data(0, 1, 0, 5, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsHoldTheLastStableOffset(t *testing.T) {
	var s State
	s.Open(0, 0, -1, 0)
	if err := s.Lead(1, Membership{InSync: []int32{1}}, 0); err != nil {
		t.Fatal(err)
	}
	txn := data(0, 1, 0, 0, 5)
	txn.Attributes = 0x10
	s.Producers.Appended(txn)
	plain := data(5, 2, 0, 0, 5)
	s.Producers.Appended(plain)
	s.Appended(10, 0)
	s.FlushedTo(10)
	if s.HighWatermark() != 10 || s.LastStable() != 0 {
		t.Fatalf("high watermark %d, last stable %d", s.HighWatermark(), s.LastStable())
	}
	if _, _, err := s.Producers.Check(data(0, 1, 0, 5, 1)); !errors.Is(err, ErrInvalidTxnState) {
		t.Fatalf("plain batch amid a transaction: %v", err)
	}
	marker := &batch.Header{BaseOffset: 10, ProducerID: 1, BaseSequence: -1, Attributes: 0x30, Count: 1}
	aborted, ok := s.Producers.Marked(marker, false, 3)
	if !ok || aborted != (Aborted{ProducerID: 1, FirstOffset: 0, LastOffset: 10, LastStableOffset: 11}) {
		t.Fatalf("aborted %+v %v", aborted, ok)
	}
	s.Appended(11, 0)
	if s.LastStable() != 0 {
		t.Fatalf("last stable %d before the marker is acknowledged", s.LastStable())
	}
	s.FlushedTo(11)
	if s.LastStable() != 11 {
		t.Fatalf("last stable %d after the marker is acknowledged", s.LastStable())
	}
	if err := s.Producers.CheckMarker(marker, 2); !errors.Is(err, ErrCoordinatorFenced) {
		t.Fatalf("marker of an older coordinator: %v", err)
	}
}

func TestABoxThatStartsLeadsNothingInItsOldEpoch(t *testing.T) {
	var s State
	s.Open(0, 100, 4, 80)
	if s.HighWatermark() != 80 || s.Flushed() != 80 {
		t.Fatalf("high watermark %d, flushed %d", s.HighWatermark(), s.Flushed())
	}
	for _, epoch := range []int32{3, 4} {
		if err := s.Lead(epoch, Membership{InSync: []int32{1}}, 0); !errors.Is(err, ErrStaleEpoch) {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
	}
	if err := s.CheckEpoch(-1); !errors.Is(err, ErrNotLeader) {
		t.Fatal(err)
	}
	if err := s.Lead(5, Membership{InSync: []int32{1}}, 0); err != nil {
		t.Fatal(err)
	}
	for expected, want := range map[int32]error{-1: nil, 5: nil, 4: ErrFenced, 6: ErrUnknownEpoch} {
		if err := s.CheckEpoch(expected); !errors.Is(err, want) {
			t.Errorf("expected epoch %d: %v, want %v", expected, err, want)
		}
	}
	s.Resign(6)
	if err := s.Lead(5, Membership{InSync: []int32{1}}, 0); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
}

// A log that is cut below its start begins where it is cut.
func TestACutBelowTheStart(t *testing.T) {
	for _, d := range []Durability{Flushed, Replicated} {
		var s State
		s.Open(4, 6, 1, 6)
		s.SetDurability(d)
		s.Resign(2)
		for _, end := range []int64{5, 4, 2, 0} {
			s.Truncated(end, 1)
			if err := s.CheckInvariants(); err != nil || s.Start() != min(4, end) || s.End() != end || s.HighWatermark() != end || s.Flushed() != end {
				t.Fatalf("cut to %d: start %d, end %d, high watermark %d, flushed %d, %v", end, s.Start(), s.End(), s.HighWatermark(), s.Flushed(), err)
			}
		}
		s.Copied(3, 2)
		s.FlushedTo(3)
		s.Fetched(3)
		if offset, ok := s.Vouches(); s.Start() != 0 || s.HighWatermark() != 3 || offset != 3 || !ok {
			t.Fatalf("start %d, high watermark %d, vouches for %d %v", s.Start(), s.HighWatermark(), offset, ok)
		}
	}
}

// A topic that goes from Replicated to Flushed keeps its high watermark, and a flush that began before that may come
// back with less.
func TestGoingToFlushedWhileAFlushIsUnderWay(t *testing.T) {
	var s State
	s.Open(0, 0, -1, 0)
	if err := s.Lead(1, Membership{InSync: []int32{1}}, 0); err != nil {
		t.Fatal(err)
	}
	s.Appended(10, 0)
	s.SetDurability(Replicated)
	s.Appended(20, 0)
	s.SetDurability(Flushed)
	for _, flushed := range []int64{10, 20} {
		if s.FlushedTo(flushed); s.HighWatermark() != 20 {
			t.Fatalf("high watermark %d after a flush to %d", s.HighWatermark(), flushed)
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	}
	if s.Appended(30, 0); s.HighWatermark() != 20 {
		t.Fatalf("high watermark %d before the flush", s.HighWatermark())
	}
	if s.FlushedTo(30); s.HighWatermark() != 30 {
		t.Fatalf("high watermark %d after the flush", s.HighWatermark())
	}
}

func TestExpiryAndEvictionSpareOpenTransactions(t *testing.T) {
	var s Producers
	open := data(0, 1, 0, 0, 1)
	open.Attributes = 0x10
	s.Appended(open)
	for id := range int64(10) {
		s.Appended(data(10+id, 10+id, 0, 0, 1))
	}
	if n := s.EvictOldest(3); n != 3 || s.Get(10) != nil || s.Get(12) != nil || s.Get(13) == nil {
		t.Fatalf("evicted %d", n)
	}
	if n := s.Expire(1_000_000_000, time.Hour); n != 7 || s.Len() != 1 || s.Get(1) == nil {
		t.Fatalf("expired %d, left %d", n, s.Len())
	}
}

// The snapshot gives back what matters for every later decision.
func TestSnapshotRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Producers
		at := int64(0)
		for range rapid.IntRange(0, 60).Draw(t, "batches") {
			pid := rapid.Int64Range(0, 4).Draw(t, "pid")
			n := rapid.Int32Range(1, 5).Draw(t, "n")
			h := data(at, pid, 0, 0, n)
			if p := s.Get(pid); p != nil {
				h.ProducerEpoch = p.Epoch
				h.BaseSequence = batch.AddSequence(p.LastSequence(), 1)
				if rapid.IntRange(0, 9).Draw(t, "bump") == 0 {
					h.ProducerEpoch, h.BaseSequence = p.Epoch+1, 0
				}
			}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				h.Attributes = 0x10
			case 1:
				s.Marked(&batch.Header{BaseOffset: at, ProducerID: pid, ProducerEpoch: h.ProducerEpoch, MaxTimestamp: at}, true, 1)
				at++
				continue
			}
			s.Appended(h)
			at += int64(n)
		}
		var back Producers
		if err := back.UnmarshalSnapshot(s.MarshalSnapshot(nil)); err != nil {
			t.Fatal(err)
		}
		if string(back.MarshalSnapshot(nil)) != string(s.MarshalSnapshot(nil)) {
			t.Fatal("the snapshot of the snapshot differs")
		}
		s.PassedHighWatermark(math.MaxInt64)
		if back.FirstUnstable() != s.FirstUnstable() {
			t.Fatalf("first unstable %d, want %d", back.FirstUnstable(), s.FirstUnstable())
		}
		s.All(func(p *Producer) {
			h := data(at, p.ID, p.Epoch, batch.AddSequence(p.LastSequence(), 1), 1)
			_, d1, e1 := s.Check(h)
			_, d2, e2 := back.Check(h)
			if d1 != d2 || (e1 == nil) != (e2 == nil) {
				t.Fatalf("producer %d: %v %v, after the snapshot %v %v", p.ID, d1, e1, d2, e2)
			}
		})
	})
}

func FuzzUnmarshalSnapshot(f *testing.F) {
	var s Producers
	s.Appended(data(0, 1, 0, 0, 1))
	f.Add(s.MarshalSnapshot(nil))
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Producers
		if err := s.UnmarshalSnapshot(b); err != nil && !errors.Is(err, ErrSnapshot) {
			t.Fatal(err)
		}
		if len(b) >= 10 && uint64(s.Len()) > uint64(binary.BigEndian.Uint32(b[6:])) {
			t.Fatal("more producers than entries")
		}
	})
}
