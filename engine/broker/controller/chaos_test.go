package controller

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"
)

// TestChaos: whatever fails, every request is answered exactly once, what was answered is what the catalog shows, leader
// epochs never go back, a box that starts leads only with an epoch above its log's, and no producer id is given twice.
func TestChaos(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRoom(rapid.Uint64().Draw(t, "seed"), Config{})
		c := &chaos{t: t, room: r, epochs: map[string]int32{}, given: map[int64]bool{}}
		r.catalog.OnChange(c.watch)
		r.tree.fail = c.fail
		r.tree.lead(true)
		r.register([]string{"0"})
		r.settle()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			c.step()
			if rapid.Bool().Draw(t, "settle") {
				r.settle()
			}
		}
		r.tree.fail = nil
		r.tree.lead(true)
		for range 20 {
			r.clock.Advance(5 * time.Second)
			r.settle()
		}
		if c.asked != c.answered {
			t.Fatalf("%d requests, %d answers", c.asked, c.answered)
		}
		for topic := range r.catalog.Current().Topics() {
			for i, p := range topic.Partitions {
				if r.catalog.Current().LeaderOf(p) != 0 {
					t.Fatalf("%s-%d has no leader in the end: %+v", topic.Name, i, p)
				}
			}
		}
		if n := r.c.pending.Load(); n != 0 {
			t.Fatalf("%d requests are counted as waiting in the end", n)
		}
		r.c.Close()
	})
}

type chaos struct {
	t               *rapid.T
	room            *room
	asked, answered int
	epochs          map[string]int32
	given           map[int64]bool
	restarts        int
}

// fail lets multis fail now and then, applied or not.
func (c *chaos) fail([]catalog.Op) (error, bool) {
	switch rapid.IntRange(0, 11).Draw(c.t, "fate") {
	case 0:
		return catalog.ErrUncertain, true
	case 1:
		return catalog.ErrUncertain, false
	case 2:
		return catalog.ErrNoQuorum, false
	case 3:
		return catalog.ErrFull, false
	}
	return nil, true
}

func (c *chaos) watch(_, after *catalog.Snapshot) {
	for _, problem := range after.Problems {
		c.t.Fatalf("%s: %v", problem.Path, problem.Err)
	}
	for topic := range after.Topics() {
		for i, p := range topic.Partitions {
			if !p.HasState {
				continue
			}
			key := fmt.Sprintf("%s-%d", topic.ID, i)
			if p.LeaderEpoch < c.epochs[key] {
				c.t.Fatalf("%s went from leader epoch %d back to %d", key, c.epochs[key], p.LeaderEpoch)
			}
			c.epochs[key] = p.LeaderEpoch
			if after.LeaderOf(p) != 0 {
				continue
			}
			for _, log := range c.room.epochs[0] {
				if log.Topic == topic.ID && int(log.Partition) == i && log.Epoch >= p.LeaderEpoch && c.restarts > 0 {
					c.t.Fatalf("%s is led with epoch %d, its log has %d", key, p.LeaderEpoch, log.Epoch)
				}
			}
		}
	}
}

// reply counts an answer and returns whether it may be believed.
func (c *chaos) reply(err error) bool {
	c.answered++
	return err == nil
}

func (c *chaos) step() {
	r := c.room
	name := rapid.SampledFrom([]string{"a", "b", "c.d", "c_d"}).Draw(c.t, "name")
	switch rapid.IntRange(0, 9).Draw(c.t, "what") {
	case 0, 1, 2:
		c.asked++
		topic := NewTopic{Name: name, Partitions: int32(rapid.IntRange(1, 5).Draw(c.t, "n")), ReplicationFactor: 1}
		r.c.CreateTopics(CreateTopics{Topics: []NewTopic{topic}, Timeout: 20 * time.Second}, func(results []CreatedTopic) {
			if got := r.catalog.Current().Topic(name); c.reply(asError(results[0].Err)) && (got == nil || got.ID != results[0].ID || len(got.Partitions) < int(topic.Partitions)) {
				c.t.Fatalf("%s was created and is not there", name)
			}
		})
	case 3, 4:
		c.asked++
		r.c.DeleteTopics(DeleteTopics{Topics: []TopicRef{{Name: &name}}, Timeout: 20 * time.Second}, func(results []DeletedTopic) {
			if c.reply(asError(results[0].Err)) && r.catalog.Current().TopicByID(results[0].ID) != nil {
				c.t.Fatalf("%s was deleted and is there", name)
			}
		})
	case 5:
		c.asked++
		count := int32(rapid.IntRange(2, 8).Draw(c.t, "count"))
		r.c.CreatePartitions(CreatePartitions{Topics: []MorePartitions{{Topic: name, Count: count}}, Timeout: 20 * time.Second}, func(results []TopicResult) {
			if got := r.catalog.Current().Topic(name); c.reply(asError(results[0].Err)) && len(got.Partitions) < int(count) {
				c.t.Fatalf("%s was grown to %d and has %d partitions", name, count, len(got.Partitions))
			}
		})
	case 6:
		c.asked++
		r.c.AllocateProducerIDs(func(first int64, n int32, err error) {
			if c.reply(err) && c.given[first] {
				c.t.Fatalf("producer ids from %d twice", first)
			}
			c.given[first] = err == nil || c.given[first]
		})
	case 7: // a restart: the log may hold any epoch that was written so far
		r.settle()
		r.epochs[0] = nil
		for topic := range r.catalog.Current().Topics() {
			for i, p := range topic.Partitions {
				if p.HasState {
					r.epochs[0] = append(r.epochs[0], PartitionEpoch{Topic: topic.ID, Partition: int32(i), Epoch: p.LeaderEpoch + int32(rapid.IntRange(-1, 3).Draw(c.t, "ahead"))})
				}
			}
		}
		c.restarts = 0
		r.register([]string{"0"})
		c.restarts++
	case 8:
		r.tree.lead(rapid.Bool().Draw(c.t, "leader"))
	case 9:
		r.clock.Advance(time.Duration(rapid.IntRange(1, 12).Draw(c.t, "seconds")) * time.Second)
	}
}

func asError(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

// TestManyPartitions: a start with 10,000 partitions elects them all in bounded multis.
func TestManyPartitions(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.settle()
	for i := range 40 {
		r.create([]string{fmt.Sprintf("t%d", i), "p=250", "rf=1"})
	}
	r.settle()
	if n := r.catalog.Current().PartitionCount(); n != 10_000 {
		t.Fatalf("%d partitions: %s", n, r.out.String())
	}
	before := r.tree.multis
	start := time.Now()
	r.register([]string{"0"})
	r.settle()
	for topic := range r.catalog.Current().Topics() {
		for _, p := range topic.Partitions {
			if r.catalog.Current().LeaderOf(p) != 0 || p.LeaderEpoch != 1 {
				t.Fatalf("%s: %+v", topic.Name, p)
			}
		}
	}
	t.Logf("10,000 elections in %d multis, %v, at most %d operations", r.tree.multis-before, time.Since(start), r.tree.largest)
	if r.tree.largest > multiOpsMax+8 {
		t.Fatalf("a multi of %d operations", r.tree.largest)
	}
}

// TestAutoCreate: a topic is created once, however often clients ask for it, and bad names are refused at once.
func TestAutoCreate(t *testing.T) {
	r := newRoom(1, Config{})
	r.tree.lead(true)
	r.register([]string{"0"})
	r.settle()
	for range 5 {
		if err := r.c.AutoCreate("wanted"); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.c.pending.Load(); n != 1 {
		t.Fatalf("%d requests for one topic", n)
	}
	if err := r.c.AutoCreate("bad/name"); !errors.Is(err, kerr.InvalidTopicException) {
		t.Fatal(err)
	}
	r.settle()
	if r.catalog.Current().Topic("wanted") == nil {
		t.Fatal("the topic was not created")
	}
	if err := r.c.AutoCreate("wanted"); err != nil || r.c.pending.Load() != 0 {
		t.Fatal(err)
	}
}

// TestBusy: more requests than the controller takes are refused, not queued.
func TestBusy(t *testing.T) {
	r := newRoom(1, Config{PendingMax: 3})
	refused := 0
	for range 5 {
		r.c.EnsureTopic("x", func(err error) {
			if errors.Is(err, kerr.RequestTimedOut) {
				refused++
			}
		})
	}
	if refused != 2 {
		t.Fatalf("%d of 5 were refused", refused)
	}
	r.c.Close()
	if r.c.pending.Load() != 0 {
		t.Fatal("requests are left after Close")
	}
}

// TestProducerIDs: ids come from blocks in order, none twice; an error fails those who wait and the next try asks again.
func TestProducerIDs(t *testing.T) {
	var asked []func(int64, int32, error)
	p := NewProducerIDs(func(done func(int64, int32, error)) { asked = append(asked, done) })
	var ids []int64
	var failures int
	next := func() {
		p.Next(func(id int64, err error) {
			if err != nil {
				failures++
				return
			}
			ids = append(ids, id)
		})
	}
	for range 5 {
		next()
	}
	asked[0](1000, 2, nil)
	asked[1](2000, 2, nil)
	asked[2](0, 0, errors.New("no quorum"))
	if len(asked) != 3 || fmt.Sprint(ids) != "[1000 1001 2000 2001]" || failures != 1 {
		t.Fatal(len(asked), ids, failures)
	}
	next()
	asked[3](3000, 1000, nil)
	next()
	if fmt.Sprint(ids) != "[1000 1001 2000 2001 3000 3001]" || len(asked) != 4 {
		t.Fatal(ids, len(asked))
	}
}
