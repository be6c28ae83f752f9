package topics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"
)

func TestNothingIsDoneBeforeStart(t *testing.T) {
	g := openBox(t, vfs.NewMem(), 1)
	g.feed(g.registration(incarnation))
	g.feed(g.topic("t", id(1), 0)...)
	dropped := false
	g.topics.Dropped(id(9), func() { dropped = true })
	g.sched.RunFor(time.Minute)
	if _, err := g.topics.Lookup("t", 0); !errors.Is(err, ErrUnknown) || len(g.names()) != 0 || g.opened != 0 || dropped {
		t.Fatalf("%v %v opened %d, dropped %v", err, g.names(), g.opened, dropped)
	}
	g.topics.Start()
	g.leads("t", id(1))
	g.until("dropped", func() bool { return dropped })
	g.close()
}

func TestCreatedLedAndKeptAcrossARestart(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 2)
	settled := false
	g.topics.Settled(func() { settled = true })
	g.feed(g.topic("t", id(1), 0)...)
	if _, err := g.topics.Lookup("t", 1); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	r := g.leads("t", id(1))
	g.write(r, 10)
	g.until("settled", func() bool { return settled })
	if !slices.Equal(g.led, []string{"t-0 true 0"}) {
		t.Fatalf("told %v", g.led)
	}
	g.close()
	if v := r.View(); v.Err == nil || g.led[1] != "t-0 false 0" {
		t.Fatalf("after the stop: %v, told %v", v.Err, g.led)
	}

	g = openBox(t, fs, 3)
	g.feed(append(g.topic("t", id(1), 1), g.registration(catalog.UUID{7}))...)
	g.topics.Start()
	g.until("open", func() bool { return g.opened == 1 })
	g.sched.RunFor(10 * time.Second)
	if r, err := g.topics.Lookup("t", 0); err != nil || r.View().Leader || len(g.led) != 0 {
		t.Fatalf("a box that the catalog shows under its last start leads: %v %v", err, g.led)
	}
	if e := g.topics.Epochs(); len(e) != 1 || e[0] != (Epoch{Topic: id(1)}) {
		t.Fatalf("epochs %v", e)
	}
	g.feed(g.registration(incarnation))
	g.feed(g.state("t", 1, catalog.UUID(g.dir.ID())))
	if v := g.leads("t", id(1)).View(); v.HighWatermark != 10 || v.LeaderEpoch != 1 {
		t.Fatalf("%+v", v)
	}
	g.close()
}

// An answer to an earlier message about leadership must not be taken for that to the newest.
func TestOnlyTheNewestElectionCounts(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 4)
	g.feed(g.topic("t", id(1), 5)...)
	g.write(g.leads("t", id(1)), 1)
	g.close()
	for seed := range uint64(150) {
		g := openBox(t, fs.CrashAll(), seed)
		g.feed(append([]catalog.Change{g.registration(incarnation)}, g.topic("t", id(1), 5)...)...)
		g.topics.Start()
		settled := false
		g.topics.Settled(func() { settled = true })
		for range seed / 5 {
			g.sched.Step()
		}
		g.feed(g.state("t", 6, catalog.UUID(g.dir.ID()))) // 5 is in the log: stale
		g.until("settled", func() bool { return settled })
		if r := g.leads("t", id(1)); r.View().LeaderEpoch != 6 || !slices.Equal(g.led, []string{"t-0 true 6"}) {
			t.Fatalf("seed %d: epoch %d, told %v", seed, r.View().LeaderEpoch, g.led)
		}
		g.close()
	}
}

// At every moment between the creation of a topic and the end of its opening it may be deleted, and created anew under
// another id: what is there in the end is the new one, empty, and nothing is left of the old.
func TestDeletionAndCreationAtEveryMoment(t *testing.T) {
	for seed := range uint64(60) {
		g := started(t, vfs.NewMem(), seed)
		dropped := false
		g.feed(g.topic("t", id(1), 0)...)
		for range seed / 2 {
			g.sched.Step()
		}
		if r, err := g.topics.Lookup("t", 0); err == nil && r.View().Leader {
			g.write(r, 3)
		}
		g.feed(mark("t", id(1)))
		if seed%2 == 0 {
			g.topics.Dropped(id(1), func() { dropped = true })
			g.until("dropped", func() bool { return dropped })
			if n := g.count("t", "-0"); n != 0 {
				t.Fatalf("seed %d: dropped, but %v is there", seed, g.names())
			}
		}
		g.feed(append(gone("t"), g.topic("t", id(2), 0)...)...)
		r := g.leads("t", id(2))
		if v := r.View(); v.End != 0 {
			t.Fatalf("seed %d: the new topic begins with %d records", seed, v.End)
		}
		g.write(r, 1)
		g.until("swept", func() bool { return g.count("t", "-delete") == 0 })
		if !slices.Equal(g.names(), []string{"t-0"}) {
			t.Fatalf("seed %d: %v", seed, g.names())
		}
		g.close()
	}
}

// A topic that is deleted while its partitions wait to be opened is deleted on disk as well, not left as a stray.
func TestDeletionWhileOthersAreOpened(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 21)
	var all []catalog.Change
	for i := range byte(4) {
		all = append(all, g.topic(fmt.Sprint("t", i), id(i+1), 0)...)
	}
	g.feed(all...)
	for i := range byte(4) {
		g.write(g.leads(fmt.Sprint("t", i), id(i+1)), 3)
	}
	g.close()
	for seed := range uint64(20) {
		g := openBox(t, fs.CrashAll(), seed, func(c *Config) { c.OpensMax = 1 })
		g.feed(append(slices.Clone(all), g.registration(incarnation))...)
		g.topics.Start()
		for range seed {
			g.sched.Step()
		}
		left := 4
		for i := range byte(4) {
			g.feed(mark(fmt.Sprint("t", i), id(i+1)))
			g.topics.Dropped(id(i+1), func() { left-- })
		}
		g.until("dropped", func() bool { return left == 0 })
		g.until("swept", func() bool { return len(g.names()) == 0 })
		g.close()
	}
}

// A deletion that a stop interrupted goes on at the next start.
func TestADeletionGoesOnAfterARestart(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 5)
	g.feed(g.topic("t", id(1), 0)...)
	g.write(g.leads("t", id(1)), 3)
	g.close()

	g = openBox(t, fs, 6)
	g.feed(append(g.topic("t", id(1), 1), g.registration(incarnation), mark("t", id(1)))...)
	dropped := false
	g.topics.Dropped(id(1), func() { dropped = true })
	g.sched.RunFor(time.Second)
	if dropped {
		t.Fatal("dropped before the start, with its records on disk")
	}
	g.topics.Start()
	g.until("dropped", func() bool { return dropped })
	g.feed(gone("t")...)
	g.until("swept", func() bool { return len(g.names()) == 0 })
	g.close()
}

func TestStraysAreSetAside(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 7)
	g.feed(slices.Concat(g.topic("kept", id(1), 0), g.topic("stray", id(2), 0), g.topic("anew", id(3), 0))...)
	for i, name := range []string{"kept", "stray", "anew"} {
		g.write(g.leads(name, id(byte(i+1))), 5)
	}
	g.close()
	g = started(t, fs, 8, slices.Concat(g.topic("kept", id(1), 1), g.topic("anew", id(4), 0))...)
	g.feed(g.state("kept", 1, catalog.UUID(g.dir.ID())), g.state("anew", 0, catalog.UUID(g.dir.ID())))
	if v := g.leads("kept", id(1)).View(); v.End != 5 {
		t.Fatalf("kept %d records", v.End)
	}
	if v := g.leads("anew", id(4)).View(); v.End != 0 {
		t.Fatalf("the topic created anew has %d records", v.End)
	}
	if g.count("stray", "-stray") != 1 || g.count("anew", "-stray") != 1 || len(g.names()) != 4 {
		t.Fatal(g.names())
	}
	g.close()
}

// A damaged directory of a deleted topic does not stand in the way of a new one.
func TestDamageOfADeletedTopicDoesNotStay(t *testing.T) {
	damage := func(fs *vfs.Mem) {
		f, err := fs.Open("/data/t-0/00000000000000000000.log", vfs.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{0xff, 0xff, 0xff}, 8)
		if err := errors.Join(err, f.Close(), fs.Remove("/data/.kafka_cleanshutdown")); err != nil {
			t.Fatal(err)
		}
	}
	fs := vfs.NewMem()
	g := started(t, fs, 9)
	g.feed(g.topic("t", id(1), 0)...)
	g.write(g.leads("t", id(1)), 5)
	g.close()
	damage(fs)
	g = started(t, fs, 10, g.topic("t", id(1), 1)...)
	if _, err := g.topics.Lookup("t", 0); !errors.Is(err, ErrOffline) || !errors.Is(err, seglog.ErrCorrupt) {
		t.Fatalf("a damaged log: %v", err)
	}
	settled := false
	g.topics.Settled(func() { settled = true })
	g.until("settled without it", func() bool { return settled })
	g.feed(mark("t", id(1)))
	g.feed(append(gone("t"), g.topic("t", id(2), 0)...)...)
	g.leads("t", id(2))
	g.until("swept", func() bool { return slices.Equal(g.names(), []string{"t-0"}) })
	g.close()
}

func TestAMissingDirectoryIsOffline(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 11)
	g.feed(g.topic("t", id(1), 0)...)
	g.write(g.leads("t", id(1)), 5)
	g.close()
	if err := fs.Rename("/data/t-0", "/lost"); err != nil {
		t.Fatal(err)
	}
	g = started(t, fs, 12, g.topic("t", id(1), 1)...)
	_, err := g.topics.Lookup("t", 0)
	if !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), "missing although the checkpoint") || len(g.names()) != 0 {
		t.Fatalf("%v %v", err, g.names())
	}
	g.feed(g.topicIn("u", id(2), 0, id(77))...) // a log directory that is not on this box
	g.until("offline", func() bool { _, err := g.topics.Lookup("u", 0); return errors.Is(err, ErrOffline) })
	if _, err := g.topics.Lookup("u", 0); !strings.Contains(err.Error(), "put it back") || len(g.names()) != 0 {
		t.Fatalf("%v %v", err, g.names())
	}
	g.close()
}

// A power cut right after the creation may leave a directory without the topic's id, or without the file for it. Nothing was in it.
func TestACreationThatACrashHasCut(t *testing.T) {
	for _, left := range []bool{true, false} {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("/data/t-0"); err != nil {
			t.Fatal(err)
		}
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if left {
			f, err := fs.Open("/data/t-0/partition.metadata", vfs.Create)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
		g := openBox(t, fs, 13)
		g.feed(append([]catalog.Change{g.registration(incarnation)}, g.topic("t", id(1), 0)...)...)
		g.topics.Start()
		g.write(g.leads("t", id(1)), 1)
		after := fs.CrashStrict()
		g.close()

		g = openBox(t, after, 14)
		found, err := g.dir.Partitions()
		if err != nil || len(found) != 1 || found[0].TopicID != seglog.ID(id(1)) {
			t.Errorf("file left %v: with the first acknowledged record the power goes, and the directory is %v, %v", left, found, err)
		}
		g.close()
	}
}

func TestSettingsReachTheReplica(t *testing.T) {
	g := started(t, vfs.NewMem(), 14)
	g.feed(g.topic("t", id(1), 0)...)
	r := g.leads("t", id(1))
	g.feed(catalog.Change{Path: catalog.TopicConfigPath("t"), Data: catalog.EncodeConfig(map[string]string{
		"max.message.bytes": "4321", "cairn.durability": "replicated", "message.timestamp.type": "LogAppendTime", "retention.bytes": "99",
	})})
	g.until("in force", func() bool {
		c := r.View().Config
		return c.BatchBytesMax == 4321 && c.Durability == partition.Replicated && c.LogAppendTime && c.Log.RetentionBytes == 99
	})
	g.close()
}

func TestStopWhileOpening(t *testing.T) {
	for seed := range uint64(40) {
		g := openBox(t, vfs.NewMem(), seed)
		changes := []catalog.Change{g.registration(incarnation)}
		for i := range byte(6) {
			changes = append(changes, g.topic(fmt.Sprint("t", i), id(i+1), 0)...)
		}
		g.feed(changes...)
		g.topics.Start()
		for range seed {
			g.sched.Step()
		}
		opened := g.opened
		g.close()
		if g.opened > opened && opened == 0 {
			t.Fatalf("seed %d: a box that stops says that it has opened", seed)
		}
	}
}

func TestRetentionRunsByItself(t *testing.T) {
	g := openBox(t, vfs.NewMem(), 15, func(c *Config) { c.RetentionInterval = time.Minute })
	g.feed(append(g.topic("t", id(1), 0), catalog.Change{
		Path: catalog.TopicConfigPath("t"), Data: catalog.EncodeConfig(map[string]string{"retention.ms": "1000"}),
	})...)
	g.feed(g.registration(incarnation))
	g.feed(g.state("t", 0, catalog.UUID(g.dir.ID())))
	g.topics.Start()
	r := g.leads("t", id(1))
	g.write(r, 10)
	g.sched.RunFor(30 * time.Second)
	if v := r.View(); v.Start != 0 {
		t.Fatalf("starts at %d before the time", v.Start)
	}
	g.sched.RunFor(2 * time.Minute)
	if v := r.View(); v.Start != 10 {
		t.Fatalf("starts at %d", v.Start)
	}
	if hw, ok := g.dir.HighWatermark(seglog.TopicPartition{Topic: "t"}); !ok || hw != 10 {
		t.Fatalf("checkpointed high watermark %d %v", hw, ok)
	}
	g.close()
}

// Between two looks at the retention nothing runs.
func TestAnIdleBoxDoesNotWake(t *testing.T) {
	g := started(t, vfs.NewMem(), 16)
	g.feed(g.topic("t", id(1), 0)...)
	g.write(g.leads("t", id(1)), 1)
	g.sched.RunFor(2 * time.Minute)
	steps := 0
	g.sched.Trace = func(string) { steps++ }
	g.sched.RunFor(2 * time.Minute) // the first look is due after five
	if steps != 0 {
		t.Fatalf("%d steps in two idle minutes", steps)
	}
	g.close()
}

// Only what is beyond the maximum is refused.
func TestPartitionsMax(t *testing.T) {
	g := openBox(t, vfs.NewMem(), 17, func(c *Config) { c.PartitionsMax = 2 })
	changes := []catalog.Change{g.registration(incarnation)}
	for i := range byte(3) {
		changes = append(changes, g.topic(fmt.Sprint("t", i), id(i+1), 0)...)
	}
	g.feed(changes...)
	g.topics.Start()
	g.until("open", func() bool { return g.opened == 1 })
	good, refused := 0, 0
	for i := range 3 {
		switch _, err := g.topics.Lookup(fmt.Sprint("t", i), 0); {
		case err == nil:
			good++
		case errors.Is(err, ErrOffline) && strings.Contains(err.Error(), "maximum of 2"):
			refused++
		}
	}
	if good != 2 || refused != 1 {
		t.Fatalf("%d open, %d refused", good, refused)
	}
	g.close()
}

// What a full device refused is opened once there is room.
func TestAFullDeviceIsTriedAgain(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 18)
	fs.SetCapacity(1, 1)
	g.feed(g.topic("t", id(1), 0)...)
	g.until("refused", func() bool { _, err := g.topics.Lookup("t", 0); return errors.Is(err, seglog.ErrFull) })
	fs.SetCapacity(1, 1<<40)
	g.sched.RunFor(6 * time.Minute)
	g.write(g.leads("t", id(1)), 1)
	g.close()
}

// A partition that has failed does not keep the box from being ready.
func TestAFailedPartitionIsNotWaitedFor(t *testing.T) {
	fs := vfs.NewMem()
	g := started(t, fs, 19)
	g.feed(g.topic("t", id(1), 0)...)
	r := g.leads("t", id(1))
	fs.PowerOff() // every operation fails from here on
	r.TryAppend(&replica.AppendRequest{Batch: g.records(1), Acks: -1, ExpectedEpoch: replica.Any, Done: func(*replica.AppendRequest) {}})
	g.until("failed", func() bool { return r.View().Err != nil })
	g.feed(g.state("t", 1, catalog.UUID(g.dir.ID())))
	settled := false
	g.topics.Settled(func() { settled = true })
	g.until("settled", func() bool { return settled })
}
