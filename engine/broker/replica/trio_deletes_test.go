package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
)

// deletingTrio is a trio whose log loses its beginning: to DeleteRecords, to retention on each box by itself, and to the device's
// budget. Its producers are idempotent and have one batch in flight, which they send again until it is acknowledged.
type deletingTrio struct {
	*trio
	producers [4]idempotent
	promised  int64 // everything before is deleted, as a client was told
	waiting   []*trioDeletion
	deleted   int // DeleteRecords that were answered
	removed   int // segments
	retried   int // batches that were sent again
}

// idempotent is one producer.
type idempotent struct {
	next  int32 // sequence of the batch in flight
	n     int   // its records
	raw   []byte
	at    *holder // whose answer it waits for
	acked []ackedRecord
}

type ackedRecord struct {
	offset int64
	value  string
}

func newDeletingTrio(t *testing.T, seed uint64) *deletingTrio {
	return &deletingTrio{trio: newTrioWith(t, seed, func(cfg *Config) {
		cfg.Log.SegmentBytes, cfg.Log.RetentionBytes = 2048, 6000
	})}
}

// send sends a producer's batch, a new one or the one that is not acknowledged yet.
func (c *deletingTrio) send(id int) {
	leader, p, pid := c.boxes[c.leader], &c.producers[id], int64(id)
	if leader == nil || p.at != nil && !p.at.failed {
		return
	}
	if p.raw == nil {
		p.n = 1 + c.rng.IntN(5)
		p.raw = records(c.t, pid, p.next, p.n)
	} else {
		c.retried++
	}
	p.at = leader
	req := &AppendRequest{Batch: slices.Clone(p.raw), Acks: -1, ExpectedEpoch: Any, Timeout: time.Second}
	req.Done = func(a *AppendRequest) {
		if leader.failed {
			return // the answer does not leave a box without power
		}
		p.at = nil
		if errors.Is(a.Err, partition.ErrOutOfOrderSequence) || errors.Is(a.Err, partition.ErrInvalidProducerEpoch) {
			c.t.Errorf("box %d refuses producer %d: %v", leader.id, id, a.Err)
		}
		if a.Err != nil {
			return
		}
		for i := range p.n {
			p.acked = append(p.acked, ackedRecord{a.BaseOffset + int64(i), string(value(pid, p.next+int32(i)))})
		}
		p.next, p.raw = p.next+int32(p.n), nil
	}
	leader.r.Append(context.Background(), req)
}

// trioDeletion is one that is not answered yet.
type trioDeletion struct {
	at   *holder // which has it made, and answers
	to   int64
	told map[int32]bool // who has it durably
}

// answerDeletions answers those that everybody has who is there or may lead, as the controller knows them.
func (c *deletingTrio) answerDeletions() {
	c.waiting = slices.DeleteFunc(c.waiting, func(d *trioDeletion) bool {
		if d.at.failed || !d.told[d.at.id] {
			return d.at.failed
		}
		for id := int32(1); id <= 3; id++ {
			if !d.told[id] && (c.registered[id] != 0 || slices.Contains(c.isr, id) || slices.Contains(c.elr, id)) {
				return false
			}
		}
		c.promised = max(c.promised, d.to)
		c.deleted++
		return true
	})
	if leader := c.boxes[c.leader]; leader != nil && c.registered[c.leader] == c.leaderBroker { // else it leads no more, and may not know it
		if v := leader.r.View(); v.Leader && v.LeaderEpoch == c.leaderEpoch && v.Start < c.promised {
			c.t.Errorf("box %d leads in epoch %d from offset %d on, and everything before %d is deleted", leader.id, v.LeaderEpoch, v.Start, c.promised)
		}
	}
}

// deleteRecords raises the start as a client asks for, and is answered when the others say that they have it.
func (c *deletingTrio) deleteRecords() {
	leader := c.boxes[c.leader]
	if leader == nil {
		return
	}
	v := leader.r.View()
	if v.HighWatermark <= v.Start {
		return
	}
	to := v.Start + 1 + c.rng.Int64N(v.HighWatermark-v.Start)
	d := &trioDeletion{at: leader, to: to, told: map[int32]bool{}}
	c.waiting = append(c.waiting, d)
	hears := func(h *holder) func(error) {
		return func(err error) {
			if err == nil && !h.failed {
				d.told[h.id] = true
			}
		}
	}
	leader.r.DeleteRecords(context.Background(), to, func(_ int64, err error) { hears(leader)(err) })
	for id := int32(1); id <= 3; id++ {
		if h := c.boxes[id]; h != nil && h != leader {
			h.r.AwaitStart(context.Background(), to, hears(h))
		}
	}
}

// remove has a box apply retention, or its budget.
func (c *deletingTrio) remove(h *holder) {
	done := func(removed seglog.Removed, err error) {
		c.removed += removed.Segments
		if err != nil && !h.failed && !errors.Is(err, ErrClosed) {
			c.t.Errorf("box %d removes: %v", h.id, err)
		}
	}
	if c.rng.IntN(4) > 0 {
		h.r.Retain(true, done)
		return
	}
	v := h.r.View()
	h.r.Trim(v.Start+c.rng.Int64N(v.End-v.Start+1), done)
}

func (c *deletingTrio) step() {
	switch n := c.rng.IntN(100); {
	case n < 8:
		c.send(c.rng.IntN(len(c.producers)))
	case n == 8:
		if c.rng.IntN(3) == 0 {
			c.deleteRecords()
		}
	case n == 9:
		if h := c.boxes[1+c.rng.Int32N(3)]; h != nil {
			c.remove(h)
		}
	default:
		c.trio.step()
	}
	c.answerDeletions()
}

// start is from where on all three boxes have records.
func (c *deletingTrio) start() int64 {
	var start int64
	for _, h := range c.boxes {
		start = max(start, h.r.View().Start)
	}
	return start
}

// from are the bytes of a replica's batches that reach beyond start.
func (c *deletingTrio) from(h *holder, start int64) []byte {
	raw := c.bytes(h)
	for scan := batch.Scan(raw); scan.Next(); {
		if scan.Header().NextOffset() > start {
			return raw[scan.Position():]
		}
	}
	return nil
}

// Where a log's beginning goes on each box at its own time, what is left of it is the same everywhere; every acknowledged record that no
// deletion reached is there, at its offset, once; no deletion that was acknowledged is undone; and no producer in order is refused.
func TestReplicasAgreeWhereRecordsAreDeleted(t *testing.T) {
	acked, cuts, deleted, removed, retried := 0, 0, 0, 0, 0
	for seed := *trioFrom; seed < *trioFrom+*trioSeeds; seed++ {
		c := newDeletingTrio(t, seed)
		for range 4000 {
			c.step()
		}
		c.sched.RunFor(time.Second) // what was sent last is on its way
		c.settle()
		c.check(seed)
		for id := range c.producers {
			acked += len(c.producers[id].acked)
		}
		cuts, deleted, removed, retried = cuts+c.cuts, deleted+c.deleted, removed+c.removed, retried+c.retried
		c.end()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d records acknowledged, %d logs cut, %d deletions, %d segments removed, %d batches sent again", acked, cuts, deleted, removed, retried)
	if acked < 1000 || cuts < 10 || deleted < 10 || removed < 100 || retried < 100 {
		t.Error("the runs show little")
	}
}

func (c *deletingTrio) check(seed uint64) {
	c.t.Helper()
	start := c.start()
	leaderStart := c.boxes[c.leader].r.View().Start
	for id, h := range c.boxes {
		if s := h.r.View().Start; s < c.promised || s < leaderStart {
			c.t.Fatalf("seed %d: box %d begins at %d, the leader at %d, and everything before %d is deleted", seed, id, s, leaderStart, c.promised)
		}
	}
	first := c.from(c.boxes[1], start)
	for id := int32(2); id <= 3; id++ {
		if !bytes.Equal(first, c.from(c.boxes[id], start)) {
			c.t.Fatalf("seed %d: box %d has other bytes than box 1 from %d on:\n%s\n%s", seed, id, start, listed(first), listed(c.from(c.boxes[id], start)))
		}
	}
	at, seen := map[int64]string{}, map[string]int64{}
	for scan := batch.Scan(first); scan.Next(); {
		h := scan.Header()
		offset := h.BaseOffset
		if err := batch.Walk(h, scan.Bytes()[batch.HeaderSize:], func(r *batch.Record) error {
			if before, twice := seen[string(r.Value)]; twice && h.HasProducerID() {
				c.t.Errorf("seed %d: %s at offset %d and at %d", seed, r.Value, before, offset)
			}
			at[offset], seen[string(r.Value)] = string(r.Value), offset
			offset++
			return nil
		}); err != nil {
			c.t.Fatal(err)
		}
	}
	for id := range c.producers {
		for _, a := range c.producers[id].acked {
			if a.offset >= start && at[a.offset] != a.value {
				c.t.Fatalf("seed %d: acknowledged record %s is not at offset %d: %q", seed, a.value, a.offset, at[a.offset])
			}
		}
	}
}

// listed says which batches there are.
func listed(raw []byte) string {
	var out []byte
	for scan := batch.Scan(raw); scan.Next(); {
		h := scan.Header()
		out = fmt.Appendf(out, "%d..%d of epoch %d, crc %08x; ", h.BaseOffset, h.LastOffset(), h.LeaderEpoch, h.CRC)
	}
	return string(out)
}
