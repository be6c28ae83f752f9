package topics

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/platform/vfs"
)

// disks are two log directories on disks of their own.
type disks struct {
	*vfs.Mem
	fuller string // the one with less room
	dead   string // the one on which nothing becomes durable any more; empty: none
}

var errDead = errors.New("input/output error")

func (d *disks) Usage(dir string) (vfs.Usage, error) {
	u, err := d.Mem.Usage(dir)
	if strings.HasPrefix(dir, d.fuller) {
		u.Free /= 2
	}
	return u, err
}

func (d *disks) Open(name string, mode vfs.Mode) (vfs.File, error) {
	f, err := d.Mem.Open(name, mode)
	if err != nil {
		return nil, err
	}
	return diskFile{f, d, name}, nil
}

type diskFile struct {
	vfs.File
	on   *disks
	name string
}

func (f diskFile) Sync() error {
	if f.on.dead != "" && strings.HasPrefix(f.name, f.on.dead) {
		return errDead
	}
	return f.File.Sync()
}

// start starts a box on them with a topic of one partition, which the catalog says to be in a directory.
func (d *disks) start(t *testing.T, seed uint64, leaderEpoch int32, where func(g *rig) catalog.UUID) *rig {
	t.Helper()
	g := openDirs(t, d.Mem, d, seed, []string{"/a", "/b"})
	g.feed(g.registration(incarnation))
	g.feed(g.topicIn("t", id(1), leaderEpoch, where(g))...)
	g.topics.Start()
	return g
}

// written is what a box leaves that has led the topic's partition on one of them, with three records.
func (d *disks) written(t *testing.T, seed uint64, on int) {
	t.Helper()
	g := d.start(t, seed, 0, func(g *rig) catalog.UUID { return g.diskID(on) })
	g.write(g.leads("t", id(1)), 3)
	g.close()
}

func unplaced(*rig) catalog.UUID { return catalog.ZeroUUID }

func (g *rig) diskID(i int) catalog.UUID { return catalog.UUID(g.dirs[i].ID()) }

// partitionsOn are the partition directories, those that are being deleted included, in a log directory.
func (g *rig) partitionsOn(i int) (names []string) {
	infos, err := g.fs.List(g.dirs[i].Path())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, info := range infos {
		if info.IsDir {
			names = append(names, info.Name)
		}
	}
	return names
}

// followed is the state of the topic's partition when another box leads it, and it is in a directory here.
func (g *rig) followed(leaderEpoch, version int32, where catalog.UUID) catalog.Change {
	return catalog.Change{Path: catalog.StatePath("t", 0), Version: version, Data: catalog.EncodeState(catalog.PartitionState{
		Leader: 2, LeaderEpoch: leaderEpoch, LeaderBrokerEpoch: 7, ISR: []int32{2}, Directories: map[int32]catalog.UUID{box: where}})}
}

// openedOn waits until the partition is open in a log directory.
func (g *rig) openedOn(i int) *replica.Replica {
	g.t.Helper()
	var r *replica.Replica
	g.until("open in "+g.dirs[i].Path(), func() bool {
		var err error
		r, err = g.topics.Lookup("t", 0)
		return err == nil && r.View().Err == nil && r.View().Log.Dir() == g.dirs[i]
	})
	return r
}

// A replica that the catalog names no log directory of is found again at the next start, wherever there is more room by then. The box
// says where it is, until the catalog does.
func TestAReplicaThatNobodyHasPlacedIsFoundAgain(t *testing.T) {
	d := &disks{Mem: vfs.NewMem(), fuller: "/b"}
	g := d.start(t, 51, 0, unplaced)
	r := g.leads("t", id(1))
	g.write(r, 3)
	if on := r.View().Log.Dir(); on != g.dirs[0] {
		t.Fatalf("begun in %s, where there is less room", on.Path())
	}
	g.close()

	d.fuller = "/a"
	g = d.start(t, 52, 1, unplaced)
	r = g.leads("t", id(1))
	if v := r.View(); v.End != 3 || len(g.partitionsOn(1)) > 0 {
		t.Fatalf("it leads with %d records of 3, in %s", v.End, v.Log.Dir().Path())
	}
	if e := g.topics.Epochs(); len(e) != 1 || e[0] != (Epoch{Topic: id(1), Epoch: 1, Directory: g.diskID(0)}) {
		t.Fatalf("the box says %v", e)
	}
	g.feed(g.state("t", 1, g.diskID(0)))
	g.sched.RunFor(time.Second)
	if e := g.topics.Epochs(); len(e) != 1 || !e[0].Directory.IsZero() || r.View().Err != nil {
		t.Fatalf("the box says %v of what the catalog names; %v", e, r.View().Err)
	}
	g.close()
}

// Of two, which a start that has not found the first may have left, it is the one in which more is acknowledged.
func TestTheFullerOneOfTwoReplicasIsFound(t *testing.T) {
	d := &disks{Mem: vfs.NewMem()}
	d.written(t, 53, 1)
	if err := d.Rename("/b/t-0", "/hidden"); err != nil { // else no second one is made
		t.Fatal(err)
	}
	g := d.start(t, 54, 1, func(g *rig) catalog.UUID { return g.diskID(0) })
	g.write(g.leads("t", id(1)), 1)
	g.close()
	if err := d.Rename("/hidden", "/b/t-0"); err != nil {
		t.Fatal(err)
	}
	g = d.start(t, 55, 2, unplaced)
	if v := g.leads("t", id(1)).View(); v.End != 3 {
		t.Fatalf("it leads with %d records of 3, in %s", v.End, v.Log.Dir().Path())
	}
	g.close()
}

// Where the catalog counts on a replica, and names another log directory than the one that has it, no empty log is made in that: it is
// offline, and told to be, until the catalog does not count on it.
func TestACountedReplicaIsNotMadeEmptyElsewhere(t *testing.T) {
	d := &disks{Mem: vfs.NewMem()}
	d.written(t, 57, 0)
	g := d.start(t, 58, 1, func(g *rig) catalog.UUID { return g.diskID(1) })
	g.until("told", told(g, map[catalog.UUID][]int32{id(1): {0}}))
	if _, err := g.topics.Lookup("t", 0); !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), "its log lies in /a") {
		t.Fatal(err)
	}
	g.feed(g.registration(incarnation), otherBroker, g.followed(2, 2, g.diskID(1)))
	g.until("begun anew", told(g, map[catalog.UUID][]int32{}))
	g.close()
}

// What a move to another disk of the box has left behind is set aside at the next start, once nobody counts on it.
func TestWhatAMoveLeftBehindIsSetAside(t *testing.T) {
	d := &disks{Mem: vfs.NewMem()}
	d.written(t, 59, 0)
	g := openDirs(t, d.Mem, d, 60, []string{"/a", "/b"})
	g.feed(g.topicIn("t", id(1), 1, g.diskID(1))...)
	g.feed(g.registration(incarnation), otherBroker, g.followed(2, 2, g.diskID(1)))
	g.topics.Start()
	g.openedOn(1)
	if names := g.partitionsOn(0); len(names) != 1 || !strings.HasSuffix(names[0], "-stray") {
		t.Fatal(names)
	}
	g.close()
}

// A replica whose disk dies while the box runs begins anew in the log directory that the catalog names after a while, in a leader epoch
// that the old one never hears of.
func TestAReplicaBeginsAnewWhileTheBoxRuns(t *testing.T) {
	for _, idle := range []bool{false, true} {
		d := &disks{Mem: vfs.NewMem()}
		g := d.start(t, 56, 0, func(g *rig) catalog.UUID { return g.diskID(0) })
		g.feed(g.topicIn("u", id(2), 0, g.diskID(0))...)
		r := g.leads("t", id(1))
		g.write(r, 3)
		writer := r
		if idle { // another partition finds out
			writer = g.leads("u", id(2))
		}
		d.dead = "/a"
		var refused error
		writer.Append(context.Background(), &replica.AppendRequest{Batch: g.records(1), Acks: -1, ExpectedEpoch: replica.Any, Done: func(a *replica.AppendRequest) { refused = a.Err }})
		g.until("refused", func() bool { return refused != nil })
		if g.dirs[0].Failed() == nil {
			t.Fatal("the log directory has not failed")
		}
		g.feed(g.followed(1, 1, g.diskID(0)))
		g.sched.RunFor(time.Minute)
		g.feed(g.followed(2, 2, g.diskID(1)))
		anew := g.openedOn(1)
		g.until("follows", func() bool { return anew.View().LeaderEpoch == 2 })
		if end := anew.View().End; end != 0 {
			t.Fatalf("idle %v: the new one has %d records", idle, end)
		}
		if v := r.View(); v.LeaderEpoch > 1 {
			t.Fatalf("idle %v: the old one is in epoch %d", idle, v.LeaderEpoch)
		}
	}
}

// One that is placed elsewhere than where this box has begun it moves there, at whatever moment that comes, and leaves nothing.
func TestAReplicaThatIsPlacedElsewhereGoes(t *testing.T) {
	for seed := range uint64(40) {
		d := &disks{Mem: vfs.NewMem(), fuller: "/b"}
		g := openDirs(t, d.Mem, d, seed, []string{"/a", "/b"})
		g.feed(g.registration(incarnation))
		g.feed(g.topicIn("t", id(1), 0, catalog.ZeroUUID)[0], g.followed(0, 0, catalog.ZeroUUID))
		g.topics.Start()
		for range seed {
			g.sched.Step()
		}
		g.feed(g.followed(1, 1, g.diskID(1)))
		g.openedOn(1)
		g.until("nothing is left", func() bool { return len(g.partitionsOn(0)) == 0 && slices.Equal(g.partitionsOn(1), []string{"t-0"}) })
		g.close()
	}
}
