package coordinator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPartitionFor holds values that java.lang.String.hashCode gives.
func TestPartitionFor(t *testing.T) {
	for _, c := range []struct {
		id    string
		hash  int64
		count int32
	}{
		{"", 0, 50},
		{"abc", 96354, 50},
		{"console-consumer-1", -1, 1},
		{"polygenelubricants", 0, 50}, // the smallest int, whose absolute value is taken for 0
		{"😀", 1772899, 50},
		{"Grüße", 69215351, 16},
	} {
		want := int32(0)
		if c.hash >= 0 {
			want = int32(c.hash % int64(c.count))
		}
		if got := PartitionFor(c.id, c.count); got != want {
			t.Errorf("%q of %d: %d, want %d", c.id, c.count, got, want)
		}
	}
	if PartitionFor("x", 0) != -1 {
		t.Error("a topic without partitions has one")
	}
	for range 1000 {
		id := fmt.Sprint(rand.Uint64(), "é")
		if p := PartitionFor(id, 7); p < 0 || p > 6 {
			t.Fatalf("%q: %d", id, p)
		}
	}
}

func TestWhoIsAsked(t *testing.T) {
	b := newBench(t, 1)
	heartbeat := &group.Heartbeat{Target: group.To("g")}
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != kerr.NotCoordinator {
		t.Fatalf("not led: %v", err)
	}
	b.Lead(0, b.log, 1)
	asked, beat, fetch := b.ask(commit("g", 0, 1)), b.ask(heartbeat), b.ask(&group.FetchOffsets{Target: group.To("g")})
	if err := asked.now().Failure(); err != kerr.CoordinatorLoadInProgress {
		t.Fatalf("loading: %v", err)
	}
	if err := beat.now().Failure(); err != nil {
		t.Fatalf("heartbeat while loading: %v", err)
	}
	if err := fetch.now().Failure(); err != kerr.CoordinatorLoadInProgress {
		t.Fatalf("fetch while loading: %v", err)
	}
	b.start()
	waiting := b.ask(join("g", ""))
	b.run(time.Second)
	b.ask(join("g", "")) // rebalances: the first must join again, the second waits
	b.run(time.Second)
	if !waiting.here() {
		t.Fatal("the first join was not answered")
	}
	parked := b.ask(join("g", ""))
	b.run(time.Second)
	b.Resign(0)
	if err := parked.now().Failure(); err != kerr.NotCoordinator {
		t.Fatalf("after resigning: %v", err)
	}
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != kerr.NotCoordinator {
		t.Fatalf("not led any more: %v", err)
	}
}

// TestAnswersWaitForTheLog also shows that commits which come meanwhile share one append.
func TestAnswersWaitForTheLog(t *testing.T) {
	b := newBench(t, 2)
	b.start()
	b.log.auto = false
	first := b.ask(commit("g", 0, 1))
	b.run(time.Second)
	var more []*reply
	for i := range 20 {
		more = append(more, b.ask(commit(fmt.Sprint("g", i), 0, int64(i))))
	}
	other := b.ask(&group.FetchOffsets{Target: group.To("untouched"), All: true})
	same := b.ask(&group.FetchOffsets{Target: group.To("g"), All: true})
	b.run(time.Second)
	if first.here() || more[0].here() || same.here() {
		t.Fatal("answered before the high watermark passed")
	}
	if !other.here() {
		t.Fatal("a group that nothing was written for waits")
	}
	if len(b.log.under) != 1 || b.log.appends != 1 {
		t.Fatalf("%d appends under way, %d in all", len(b.log.under), b.log.appends)
	}
	b.log.finish(true, nil)
	first.now()
	if f := same.now().(*group.FetchAnswer); f.Topics[0].Partitions[0].Offset != 1 {
		t.Fatalf("fetched %+v", f)
	}
	b.run(time.Second)
	if more[0].here() || b.log.appends != 2 {
		t.Fatalf("%d appends", b.log.appends)
	}
	b.log.finish(true, nil)
	for _, r := range more {
		if r.now().Failure() != nil {
			t.Fatal(r.a.Failure())
		}
	}
}

// TestFailedAppend: whoever waits is told to try again, and the log decides what happened.
func TestFailedAppend(t *testing.T) {
	for _, inLog := range []bool{false, true} {
		b := newBench(t, 3)
		b.start()
		if b.ask(commit("g", 0, 1)).now().Failure() != nil {
			t.Fatal("commit failed")
		}
		b.log.auto = false
		r := b.ask(commit("g", 0, 2))
		parked := b.ask(join("h", ""))
		fetch := b.ask(&group.FetchOffsets{Target: group.To("g"), All: true})
		b.run(100 * time.Millisecond)
		b.log.finish(inLog, errDisk)
		b.log.committed = b.log.end
		if err := r.now().Failure(); err != kerr.CoordinatorNotAvailable {
			t.Fatalf("commit: %v", err)
		}
		if err := fetch.now().Failure(); err != kerr.NotCoordinator {
			t.Fatalf("fetch: %v", err)
		}
		b.log.auto = true
		b.run(time.Second)
		if !parked.here() {
			t.Fatal("the join was forgotten")
		}
		want := int64(1)
		if inLog {
			want = 2
		}
		if got := b.offsets("g")[0]; got != want {
			t.Fatalf("in the log: %v; offset %d, want %d", inLog, got, want)
		}
	}
}

// TestFailuresInARowDoNotReplayWithoutEnd keeps the disk full for a while.
func TestFailuresInARowDoNotReplayWithoutEnd(t *testing.T) {
	b := newBench(t, 4)
	b.start()
	b.log.records(t, batch.NewOptions(), offsetRecord("g", 5)...)
	b.log.auto = false
	before := b.log.reads
	for range 600 {
		r := b.ask(commit("g", 0, 9))
		b.run(100 * time.Millisecond)
		if len(b.log.under) > 0 {
			b.log.finish(false, errDisk)
		}
		r.now()
	}
	if reads := b.log.reads - before; reads < 5 || reads > 40 {
		t.Fatalf("%d replays in a minute", reads)
	}
	b.log.auto = true
	b.run(time.Minute)
	if got := b.offsets("g")[0]; got != 5 {
		t.Fatalf("offset %d", got)
	}
}

func TestFencedAppendGivesUp(t *testing.T) {
	b := newBench(t, 5)
	b.start()
	b.log.epoch = 2 // somebody else was elected and this box has not heard of it
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != kerr.NotCoordinator {
		t.Fatal(err)
	}
	b.run(time.Minute)
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != kerr.NotCoordinator {
		t.Fatal(err)
	}
	b.start() // led again, in the new epoch
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != nil {
		t.Fatal(err)
	}
}

// offsetRecord is a commit as kmsg writes it.
func offsetRecord(g string, offset int64) [][]byte {
	k := kmsg.NewOffsetCommitKey()
	k.Version, k.Group, k.Topic = 1, g, "t"
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.CommitTimestamp = 3, offset, 1_767_225_600_000
	return [][]byte{k.AppendTo(nil), v.AppendTo(nil)}
}

// TestLoad reads what others have written: compressed batches, transactions, kinds of records that are not known,
// rubbish, and many batches of which one reading holds few.
func TestLoad(t *testing.T) {
	b := newBench(t, 6)
	plain, zstd := batch.NewOptions(), batch.NewOptions()
	zstd.Codec = batch.Zstd
	b.log.records(t, zstd, offsetRecord("zipped", 1)...)
	for i := range 20_000 {
		b.log.records(t, plain, offsetRecord("many", int64(i))...)
	}
	b.log.records(t, plain, []byte{0, 9, 1, 2, 3}, []byte("of a later kind"), []byte{0, 1, 0xff}, nil, nil, []byte("no key"))
	txn := batch.NewOptions()
	txn.ProducerID, txn.ProducerEpoch, txn.Transactional = 7, 0, true
	b.log.records(t, txn, offsetRecord("kept", 5)...)
	marker := func(producer int64, end batch.ControlType) {
		o := batch.NewOptions()
		o.ProducerID, o.ProducerEpoch = producer, 0
		m, err := batch.BuildMarker(nil, o, 1, batch.Marker{Type: end})
		if err != nil {
			t.Fatal(err)
		}
		b.log.write(m)
		b.log.committed = b.log.end
	}
	marker(7, batch.Commit)
	b.log.records(t, txn, offsetRecord("kept", 6)...)
	marker(7, batch.Abort)
	txn.ProducerID = 8
	b.log.records(t, txn, offsetRecord("open", 6)...)
	gone := offsetRecord("gone", 1)
	b.log.records(t, plain, append(gone, gone[0], nil)...)
	b.start()
	if b.log.reads < 3 {
		t.Fatalf("read in %d pieces", b.log.reads)
	}
	for g, want := range map[string]int64{"zipped": 1, "many": 19_999, "kept": 5} {
		if got := b.offsets(g); got[0] != want {
			t.Errorf("%s: %v, want %d", g, got, want)
		}
	}
	if got := b.offsets("open"); len(got) != 0 {
		t.Errorf("an open transaction shows: %v", got)
	}
	if got := b.offsets("gone"); len(got) != 0 {
		t.Errorf("removed: %v", got)
	}
	q := &group.FetchOffsets{Target: group.To("open"), Topics: []group.TopicPartitions{{Topic: "t", Partitions: []int32{0}}}, RequireStable: true}
	if f := b.ask(q).now().(*group.FetchAnswer); f.Topics[0].Partitions[0].Err != kerr.UnstableOffsetCommit {
		t.Errorf("stable: %+v", f)
	}
}

// TestLoadWaitsForTheHighWatermark: what is not committed yet is not shown.
func TestLoadWaitsForTheHighWatermark(t *testing.T) {
	b := newBench(t, 7)
	b.log.records(t, batch.NewOptions(), offsetRecord("g", 1)...)
	b.log.committed = 0
	b.Lead(0, b.log, 1)
	b.run(time.Second)
	if err := b.ask(&group.FetchOffsets{Target: group.To("g")}).now().Failure(); err != kerr.CoordinatorLoadInProgress {
		t.Fatal(err)
	}
	b.log.committed = b.log.end
	b.run(time.Second)
	if got := b.offsets("g")[0]; got != 1 {
		t.Fatal(got)
	}
}

func TestDamagedLogIsNotGuessed(t *testing.T) {
	b := newBench(t, 8)
	b.log.records(t, batch.NewOptions(), offsetRecord("g", 1)...)
	at := bytes.IndexByte(b.log.bytes[batch.HeaderSize:], 'g') + batch.HeaderSize // nothing but the CRC tells
	b.log.bytes[at] ^= 1
	b.Lead(0, b.log, 1)
	b.run(time.Minute)
	if err := b.ask(commit("g", 0, 2)).now().Failure(); err != kerr.CoordinatorLoadInProgress {
		t.Fatal(err)
	}
	list := errors.New("not called")
	b.List(t.Context(), nil, func(_ []group.Listed, err *kerr.Error) { list = err })
	b.run(time.Second)
	if list != error(kerr.CoordinatorLoadInProgress) {
		t.Fatal(list)
	}
	b.log.bytes[at] ^= 1 // repaired
	b.run(time.Minute)
	if got := b.offsets("g")[0]; got != 1 {
		t.Fatal(got)
	}
}

func TestExpiryNeedsAGoodClock(t *testing.T) {
	b := newBench(t, 9)
	b.start()
	b.ask(commit("g", 0, 1)).now()
	b.good = false
	b.clock.JumpWall(30 * 24 * time.Hour)
	b.run(time.Hour)
	if len(b.offsets("g")) != 1 {
		t.Fatal("expired by a bad clock")
	}
	b.good = true
	b.run(time.Hour)
	if len(b.offsets("g")) != 0 {
		t.Fatal("did not expire")
	}
	if b.log.end != 2 {
		t.Fatalf("log ends at %d: no tombstone", b.log.end)
	}
}

func TestDeletedTopicsLoseTheirOffsets(t *testing.T) {
	b := newBench(t, 10)
	b.start()
	b.ask(commit("g", 0, 1)).now()
	b.TopicsDeleted([]string{"t"})
	if len(b.offsets("g")) != 0 {
		t.Fatal("offset of a deleted topic")
	}
}

func TestCloseAnswersEverybody(t *testing.T) {
	b := newBench(t, 11)
	b.start()
	b.log.auto = false
	r := b.ask(commit("g", 0, 1))
	b.run(time.Second)
	b.Close()
	if !r.here() || r.a.Failure() != kerr.CoordinatorNotAvailable {
		t.Fatalf("answered %v", r.a)
	}
	if err := b.ask(commit("g", 0, 1)).now().Failure(); err != kerr.CoordinatorNotAvailable {
		t.Fatal(err)
	}
}

// TestIdleCoordinatorSleeps: without groups nothing wakes the owner.
func TestIdleCoordinatorSleeps(t *testing.T) {
	b := newBench(t, 12)
	b.start()
	steps := 0
	b.s.Trace = func(string) { steps++ }
	b.run(24 * time.Hour)
	if steps > 2 {
		t.Fatalf("%d steps in an idle day", steps)
	}
}

// TestLargeAppendsAreSplit keeps single batches small however many records one append has.
func TestLargeAppendsAreSplit(t *testing.T) {
	b := newBench(t, 13)
	b.start()
	q := commit("g", 0, 0)
	q.Topics[0].Partitions = nil
	text := make([]byte, 4000)
	for i := range text {
		text[i] = 'x'
	}
	for i := range int32(500) {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, group.CommitPartition{Partition: i, Offset: 1, Metadata: string(text)})
	}
	for i, err := range b.ask(q).now().(*group.CommitAnswer).Partitions {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	batches := 0
	for s := batch.Scan(b.log.bytes); s.Next(); batches++ {
		if s.Header().Size() > 520<<10 {
			t.Fatalf("a batch of %d bytes", s.Header().Size())
		}
	}
	if batches < 4 {
		t.Fatalf("%d batches", batches)
	}
}

// TestRandomFaults: whatever fails and in whatever order, an offset whose commit was answered is there afterwards, and
// nothing is there that nobody committed.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(60) {
		faults(t, seed)
	}
}

func faults(t *testing.T, seed uint64) {
	b := newBench(t, seed)
	r := b.s.Rand()
	b.log.auto = false
	b.Lead(0, b.log, 1)
	acked, tried := map[int32]int64{}, map[int32]map[int64]bool{}
	next := int64(0)
	busy := map[int32]bool{}
	for range 300 {
		switch r.IntN(8) {
		case 0, 1, 2, 3:
			p := r.Int32N(5)
			if busy[p] {
				break
			}
			busy[p] = true
			next++
			offset := next
			if tried[p] == nil {
				tried[p] = map[int64]bool{}
			}
			tried[p][offset] = true
			b.Ask(t.Context(), commit("g", p, offset), func(a group.Answer) {
				busy[p] = false
				if a.Failure() == nil {
					acked[p] = offset
					tried[p] = map[int64]bool{}
				}
			})
		case 4, 5, 6:
			if len(b.log.under) > 0 {
				switch r.IntN(6) {
				case 0:
					b.log.finish(false, errDisk)
				case 1:
					b.log.finish(true, errDisk)
				default:
					b.log.finish(true, nil)
				}
			}
		case 7:
			if r.IntN(4) == 0 {
				b.log.epoch++
				b.log.under = nil // the old leader's appends are fenced
				b.log.committed = b.log.end
				b.Resign(0)
				b.Lead(0, b.log, b.log.epoch)
			}
		}
		b.run(time.Duration(r.IntN(30)) * time.Millisecond)
	}
	for len(b.log.under) > 0 {
		b.log.finish(true, nil)
		b.run(time.Second)
	}
	b.log.auto, b.log.committed = true, b.log.end
	b.run(time.Minute)
	found := b.offsets("g")
	for p, offset := range acked {
		if found[p] != offset && !tried[p][found[p]] {
			t.Fatalf("seed %d: partition %d: %d was answered, %d found", seed, p, offset, found[p])
		}
	}
	if len(acked) == 0 {
		t.Fatalf("seed %d: nothing was ever committed", seed)
	}
}

// FuzzLoad replays whatever bytes a partition may hold.
func FuzzLoad(f *testing.F) {
	o := batch.NewOptions()
	b := batch.NewBuilder(o)
	r := offsetRecord("g", 1)
	b.Append(1, r[0], r[1])
	good, _ := b.Build(nil)
	f.Add(good)
	o.Codec = batch.Gzip
	b.Reset(o)
	b.Append(1, r[0], r[1])
	zipped, _ := b.Build(nil)
	f.Add(zipped)
	m, _ := batch.BuildMarker(nil, o, 1, batch.Marker{})
	f.Add(m)
	f.Fuzz(func(t *testing.T, data []byte) {
		for s := batch.Scan(data); s.Next(); { // a fuzzer does not find CRCs
			whole := s.Bytes()
			binary.BigEndian.PutUint32(whole[17:], batch.Checksum(whole))
		}
		l := &load{groups: newBench(t, 1).groupsForTest(), openMax: 1 << 20}
		var opener batch.Opener
		if next, err := l.replay(data, 0, &opener); err == nil && next < 0 {
			t.Fatalf("goes on at offset %d", next)
		}
	})
}

// TestTopicsDeletedMeanwhile: a deletion that comes while groups are loaded, or whose append fails, is not forgotten.
func TestTopicsDeletedMeanwhile(t *testing.T) {
	b := newBench(t, 14)
	b.log.records(t, batch.NewOptions(), offsetRecord("g", 1)...)
	b.Lead(0, b.log, 1)
	b.TopicsDeleted([]string{"other", "t"})
	b.start()
	if got := b.offsets("g"); len(got) != 0 {
		t.Fatalf("deleted while loading: %v", got)
	}
	b.ask(commit("g", 0, 2)).now() // a new topic of that name
	b.log.auto = false
	b.TopicsDeleted([]string{"t"})
	b.run(time.Second)
	b.log.finish(false, errDisk)
	b.log.auto = true
	b.run(time.Minute)
	if got := b.offsets("g"); len(got) != 0 {
		t.Fatalf("the append of the removal failed: %v", got)
	}
	b.ask(commit("g", 0, 3)).now()
	b.Resign(0)
	b.start()
	if got := b.offsets("g"); got[0] != 3 {
		t.Fatalf("an offset of a new topic was taken for an old one's: %v", got)
	}
}

// TestDrain: nobody waits for other members any more, and what is on its way to the log is answered by the log.
func TestDrain(t *testing.T) {
	b := newBench(t, 15)
	b.start()
	first := b.ask(join("g", ""))
	b.run(time.Second)
	member := first.now().(*group.JoinAnswer).MemberID
	b.ask(join("g", ""))
	sync := b.ask(&group.Sync{Target: group.To("other")})
	rejoin := b.ask(join("g", ""))
	b.log.auto = false
	committed := b.ask(commit("simple", 0, 1))
	b.run(100 * time.Millisecond)
	b.Drain()
	if err := rejoin.now().Failure(); err != kerr.CoordinatorNotAvailable {
		t.Fatalf("join: %v", err)
	}
	if sync.now(); committed.here() {
		t.Fatal("the commit was answered before the log was")
	}
	if err := b.ask(&group.Heartbeat{Target: group.To("g"), MemberID: member, Generation: 1}).now().Failure(); err != kerr.CoordinatorNotAvailable {
		t.Fatalf("heartbeat: %v", err)
	}
	b.log.finish(true, nil)
	if err := committed.now().Failure(); err != nil {
		t.Fatalf("commit: %v", err)
	}
	b.run(time.Minute) // the members' sessions end, and their joins are not answered twice
}
