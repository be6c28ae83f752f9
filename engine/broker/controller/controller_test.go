package controller

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

var rewrite = flag.Bool("rewrite", false, "write the scripts' outputs instead of comparing them")

// room is a controller with everything that it needs, in memory, on one seeded scheduler.
type room struct {
	tree      *memoryTree
	clock     *clock.Virtual
	scheduler *mailbox.Scheduler
	catalog   *catalog.Catalog
	c         *Controller
	out       strings.Builder
	epochs    map[int32][]PartitionEpoch
	asked     []string
	holdDrop  bool
	drops     []func(error)
	mute      bool // brokers do not answer for their epochs
	seed      uint64
}

var incarnation = catalog.UUID{0xaa, 1}

func newRoom(seed uint64, cfg Config) *room {
	r := &room{tree: newMemoryTree(), clock: clock.NewVirtual(time.UnixMilli(1_700_000_000_000)), epochs: map[int32][]PartitionEpoch{}, seed: seed}
	r.scheduler = mailbox.NewScheduler(seed, r.clock)
	r.catalog = catalog.New(catalog.Base{BrokerID: 0}, func(p catalog.Problem) { fmt.Fprintf(&r.out, "PROBLEM %s: %v\n", p.Path, p.Err) })
	if cfg.Incarnation.IsZero() {
		cfg.Incarnation = incarnation
	}
	cfg.ClusterID = "scripted"
	r.c = New(cfg, Deps{
		Runtime: r.scheduler, Tree: r.tree, Catalog: r.catalog, Brokers: r,
		Random: rand.NewChaCha8([32]byte{byte(seed)}), Observer: observe.Discard(),
	})
	r.catalog.Follow(r.tree)
	return r
}

func (r *room) HighestEpochs(broker int32, done func([]PartitionEpoch, error)) {
	r.asked = append(r.asked, fmt.Sprintf("epochs of broker %d", broker))
	if !r.mute {
		done(r.epochs[broker], nil)
	}
}

func (r *room) DropTopic(broker int32, topic catalog.UUID, done func(error)) {
	t := r.catalog.Current().TopicByID(topic)
	r.asked = append(r.asked, fmt.Sprintf("broker %d to drop %s", broker, t.Name))
	if r.holdDrop {
		r.drops = append(r.drops, done)
		return
	}
	done(nil)
}

// settle runs until nothing happens any more. The clock moves by some milliseconds at most: a work that the scheduler
// runs within three keeps it from jumping to the next deadline.
func (r *room) settle() {
	for range 10_000 {
		ticked := false
		r.scheduler.Spawn("tick", func() { ticked = true }, nil)
		r.scheduler.RunUntil(time.Second, func() bool { return ticked })
		if !r.tree.deliver() {
			return
		}
	}
	panic("the room does not settle")
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

// runScript runs the blocks of a file: commands, a line "----", and what they print, up to an empty line.
func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(1, Config{PartitionsMax: 5000})
	var written strings.Builder
	for block := range strings.SplitSeq(strings.TrimRight(string(text), "\n"), "\n\n") {
		commands, want, _ := strings.Cut(block, "\n----")
		r.out.Reset()
		r.asked = nil
		for line := range strings.Lines(commands) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				r.run(strings.Fields(line))
			}
		}
		got := strings.TrimRight(r.out.String(), "\n")
		written.WriteString(commands + "\n----\n")
		if got != "" {
			written.WriteString(got + "\n")
		}
		written.WriteString("\n")
		if want = strings.Trim(want, "\n"); got != want && !*rewrite {
			t.Errorf("%s:\n%s\ngot:\n%s\nwant:\n%s", file, commands, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(written.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *room) printf(format string, args ...any) { fmt.Fprintf(&r.out, format+"\n", args...) }

func show(err *Error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// run takes one command of a script.
func (r *room) run(f []string) {
	word := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	switch f[0] {
	case "lead", "follow":
		r.tree.lead(f[0] == "lead")
	case "register":
		r.register(f[1:])
	case "disk":
		r.loseDisk(f[1], f[2])
	case "unregister":
		r.tree.apply([]catalog.Op{remove(Path(f[1]))})
	case "create":
		r.create(f[1:])
	case "delete":
		r.delete(f[1:])
	case "grow":
		n, _ := strconv.Atoi(word(2))
		r.c.CreatePartitions(CreatePartitions{ValidateOnly: word(3) == "validate", Topics: []MorePartitions{{Topic: f[1], Count: int32(n)}}},
			func(results []TopicResult) {
				for _, t := range results {
					r.printf("grow %s: %s", t.Topic, show(t.Err))
				}
			})
	case "alter", "replace":
		r.alter(f)
	case "elect":
		r.elect(f[1:])
	case "insync":
		r.inSync(f[1:])
	case "reassign":
		r.reassign(f[1:])
	case "rebalance":
		r.rebalance(f[1])
	case "catchup":
		r.catchUp()
	case "load":
		r.load(f[1:])
		return
	case "racks":
		r.racks(f[1])
		return
	case "directories":
		r.directories(f[1])
		return
	case "leave":
		r.leave(f[1:])
	case "ids":
		r.c.AllocateProducerIDs(func(first int64, n int32, err error) { r.printf("producer ids from %d, %d: %v", first, n, err) })
	case "ensure":
		r.c.EnsureTopic(f[1], func(err error) { r.printf("ensure %s: %v", f[1], err) })
	case "epochs":
		p, _ := strconv.Atoi(word(3))
		e, _ := strconv.Atoi(word(4))
		b, _ := strconv.Atoi(word(1))
		r.epochs[int32(b)] = append(r.epochs[int32(b)], PartitionEpoch{r.catalog.Current().Topic(word(2)).ID, int32(p), int32(e), directory(word(5), b)})
		return
	case "mute":
		r.mute = word(1) != "off"
		return
	case "hold":
		r.holdDrop = true
		return
	case "dropped":
		for _, done := range r.drops {
			done(nil)
		}
		r.drops = nil
	case "fail":
		r.failNext(f[1:])
		return
	case "advance":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			panic(err)
		}
		r.clock.Advance(d)
	case "asked":
		r.printf("asked: %s", strings.Join(r.asked, ", "))
		return
	case "dump":
		r.dump(f[1:])
		return
	default:
		panic("unknown command " + f[0])
	}
	r.settle()
}

// Path is the registration of a broker given as text.
func Path(id string) string {
	n, _ := strconv.Atoi(id)
	return catalog.BrokerPath(int32(n))
}

func (r *room) register(f []string) {
	id, _ := strconv.Atoi(f[0])
	b := &catalog.Broker{ID: int32(id), Incarnation: catalog.UUID{0xaa, byte(id), 1}, Started: time.UnixMilli(0), CleanStop: !slices.Contains(f, "unclean"),
		LogDirs: []catalog.LogDir{{ID: catalog.UUID{0xdd, byte(id), 9}, Path: "/d", Failed: slices.Contains(f, "failed")}}}
	if slices.Contains(f, "newdisk") {
		b.LogDirs[0].ID = directory("ee", id)
	}
	if slices.Contains(f, "two") {
		b.LogDirs = append(b.LogDirs, catalog.LogDir{ID: directory("ee", id), Path: "/e"})
	}
	if i := slices.IndexFunc(f, func(w string) bool { return strings.HasPrefix(w, "rack=") }); i >= 0 {
		b.Rack = strings.TrimPrefix(f[i], "rack=")
	}
	if id == 0 && !slices.Contains(f, "old") {
		b.Incarnation = incarnation
	}
	r.tree.Register(b.Registration(), func(err error) {
		if err != nil {
			r.printf("register: %v", err)
		}
	})
}

// directory is a log directory of a broker, as brokers are made here; zero for an empty name.
func directory(name string, broker int) catalog.UUID {
	first, err := strconv.ParseUint(name, 16, 8)
	if err != nil {
		return catalog.ZeroUUID
	}
	return catalog.UUID{byte(first), byte(broker), 9}
}

// loseDisk is: disk BROKER DIRECTORY, which fails while the broker runs: its registration says so and stays the same one.
func (r *room) loseDisk(broker, name string) {
	id, _ := strconv.Atoi(broker)
	b := *r.catalog.Current().Broker(int32(id))
	b.LogDirs = slices.Clone(b.LogDirs)
	for i := range b.LogDirs {
		b.LogDirs[i].Failed = b.LogDirs[i].Failed || b.LogDirs[i].ID == directory(name, id)
	}
	r.tree.apply([]catalog.Op{set(b.Registration().Path, b.Registration().Data)})
}

func (r *room) create(f []string) {
	req := CreateTopics{Timeout: 10 * time.Second}
	topic := NewTopic{Name: f[0], Partitions: -1, ReplicationFactor: -1}
	for _, arg := range f[1:] {
		key, value, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "p":
			topic.Partitions = int32(n)
		case "rf":
			topic.ReplicationFactor = int16(n)
		case "validate":
			req.ValidateOnly = true
		case "twice":
			req.Topics = append(req.Topics, topic)
		case "assign": // 0,1:1,0
			for i, one := range strings.Split(value, ":") {
				topic.Assignments = append(topic.Assignments, Assignment{Partition: int32(i), Brokers: numbers(one)})
			}
		case "null":
			topic.Configs = append(topic.Configs, ConfigValue{Name: value})
		default:
			topic.Configs = append(topic.Configs, ConfigValue{Name: key, Value: &value})
		}
	}
	req.Topics = append(req.Topics, topic)
	r.c.CreateTopics(req, func(results []CreatedTopic) {
		for _, t := range results {
			visible := r.catalog.Current().Topic(t.Name) != nil
			r.printf("create %q: %s, %d partitions, %d replicas, visible %v", t.Name, show(t.Err), t.Partitions, t.ReplicationFactor, visible)
		}
	})
}

func numbers(text string) []int32 {
	var out []int32
	for part := range strings.SplitSeq(text, ",") {
		if n, err := strconv.Atoi(part); err == nil {
			out = append(out, int32(n))
		}
	}
	return out
}

func (r *room) delete(f []string) {
	req := DeleteTopics{Timeout: 30 * time.Second}
	for _, name := range f {
		ref := TopicRef{Name: &name}
		if id, ok := strings.CutPrefix(name, "id:"); ok {
			ref = TopicRef{ID: catalog.UUID{0xff}}
			if t := r.catalog.Current().Topic(id); t != nil {
				ref.ID = t.ID
			}
		}
		req.Topics = append(req.Topics, ref)
	}
	r.c.DeleteTopics(req, func(results []DeletedTopic) {
		for _, t := range results {
			name := "(nil)"
			if t.Name != nil {
				name = *t.Name
			}
			r.printf("delete %s: %s, visible %v", name, show(t.Err), r.catalog.Current().Topic(name) != nil)
		}
	})
}

// alter is: alter|replace topic|broker NAME|default {k=v | -k | +k=v | ~k=v | validate}
func (r *room) alter(f []string) {
	change := ResourceChange{Type: map[string]ResourceType{"topic": TopicResource, "broker": BrokerResource, "group": GroupResource}[f[1]], Name: f[2]}
	if f[2] == "default" {
		change.Name = ""
	}
	req := AlterConfigs{Incremental: f[0] == "alter"}
	for _, arg := range f[3:] {
		op := SetConfig
		if i := strings.IndexByte("-+~", arg[0]); i >= 0 {
			op, arg = ConfigOp(i+1), arg[1:]
		}
		key, value, has := strings.Cut(arg, "=")
		c := ConfigChange{Name: key, Op: op}
		if has {
			c.Value = &value
		}
		if arg == "validate" {
			req.ValidateOnly = true
			continue
		}
		change.Changes = append(change.Changes, c)
	}
	req.Resources = []ResourceChange{change}
	r.c.AlterConfigs(req, func(results []ResourceResult) {
		for _, res := range results {
			r.printf("%s %q: %s", f[0], res.Name, show(res.Err))
		}
	})
}

func (r *room) elect(f []string) {
	req := ElectLeaders{Type: map[string]ElectionType{"preferred": PreferredElection, "unclean": UncleanElection}[f[0]], All: f[1] == "all"}
	for _, tp := range f[1:] {
		if topic, p, ok := strings.Cut(tp, ":"); ok {
			n, _ := strconv.Atoi(p)
			req.Partitions = append(req.Partitions, TopicPartition{topic, int32(n)})
		}
	}
	r.c.ElectLeaders(req, func(results []PartitionResult, err *Error) {
		r.printf("elect: %s", show(err))
		for _, p := range results {
			r.printf("  %s:%d %s", p.Topic, p.Partition, show(p.Err))
		}
	})
}

// inSync is: insync BROKER TOPIC:P ISR {be=N | pe=N | le=N | stale=BROKER}, the epochs as they are unless given, or as a difference.
func (r *room) inSync(f []string) {
	id, _ := strconv.Atoi(f[0])
	topic, p, _ := strings.Cut(f[1], ":")
	n, _ := strconv.Atoi(p)
	s := r.catalog.Current()
	req := AlterInSync{Broker: int32(id)}
	change := InSyncChange{Topic: catalog.UUID{0xff}, Partition: int32(n)}
	if b := s.Broker(int32(id)); b != nil {
		req.BrokerEpoch = b.Epoch
	}
	if t := s.Topic(topic); t != nil {
		change.Topic = t.ID
		if part := t.Partition(int32(n)); part != nil {
			change.LeaderEpoch, change.PartitionEpoch = part.LeaderEpoch, part.PartitionEpoch
		}
	}
	for _, broker := range numbers(f[2]) {
		one := InSyncReplica{Broker: broker}
		if b := s.Broker(broker); b != nil {
			one.Epoch = b.Epoch
		}
		change.InSync = append(change.InSync, one)
	}
	for _, arg := range f[3:] {
		key, value, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "be":
			req.BrokerEpoch += int64(n)
		case "pe":
			change.PartitionEpoch += int32(n)
		case "le":
			change.LeaderEpoch += int32(n)
		case "stale":
			for i := range change.InSync {
				if change.InSync[i].Broker == int32(n) {
					change.InSync[i].Epoch--
				}
			}
		}
	}
	req.Partitions = []InSyncChange{change}
	r.c.AlterInSync(req, func(results []InSyncResult) {
		r.printf("insync %s: %s", f[1], show(results[0].Err))
	})
}

func (r *room) reassign(f []string) {
	topic, p, _ := strings.Cut(f[0], ":")
	n, _ := strconv.Atoi(p)
	one := Reassignment{TopicPartition: TopicPartition{topic, int32(n)}}
	if f[1] != "cancel" {
		one.Replicas = append([]int32{}, numbers(f[1])...) // nil would cancel
	}
	r.c.AlterReassignments(AlterReassignments{KeepFactor: slices.Contains(f, "keep"), Partitions: []Reassignment{one}}, func(results []PartitionResult) {
		r.printf("reassign %s: %s", f[0], show(results[0].Err))
	})
}

// rebalance is: rebalance pause|resume|status
func (r *room) rebalance(what string) {
	if what != "status" {
		r.c.ControlRebalance(RebalanceControl{Pause: what == "pause"}, func(err error) { r.printf("%s: %v", what, err) })
		return
	}
	r.c.RebalanceStatus(func(s RebalanceStatus, err error) {
		if err != nil {
			r.printf("status: %v", err)
			return
		}
		r.printf("paused %v, %d of %d move, %d wait", s.Paused, s.Moving, s.MovesMax, s.Waiting)
		for _, m := range s.Moves {
			r.printf("  %s-%d %v adding=%v removing=%v isr=%v", m.Topic, m.Partition, m.Replicas, m.Adding, m.Removing, m.InSync)
		}
		for _, m := range s.Wanted[:min(len(s.Wanted), 4)] {
			r.printf("  %s-%d %v wants %d, lost %v: %s", m.Topic, m.Partition, m.Replicas, m.Want, m.Lost, m.Why)
		}
		for _, a := range s.Absent {
			r.printf("  broker %d away for %d s, %d s left %s", a.Broker, a.AwaySeconds, a.LeftSeconds, a.Directory)
		}
	})
}

// catchUp has every leader let all replicas into the ISR that live.
func (r *room) catchUp() {
	s := r.catalog.Current()
	for t := range s.Topics() {
		for i, p := range t.Partitions {
			leader := s.LeaderOf(p)
			if leader == catalog.NoLeader || t.Deleting {
				continue
			}
			change := InSyncChange{Topic: t.ID, Partition: int32(i), LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			for _, id := range p.Replicas {
				if b := s.Broker(id); b != nil && s.ReplicaOnline(p, id) {
					change.InSync = append(change.InSync, InSyncReplica{id, b.Epoch})
				}
			}
			if len(change.InSync) > len(p.ISR) {
				r.c.AlterInSync(AlterInSync{Broker: leader, BrokerEpoch: s.Broker(leader).Epoch, Partitions: []InSyncChange{change}}, func([]InSyncResult) {})
			}
		}
	}
}

// load is how many replicas of a topic, or of all, each broker has, and how many it is to lead.
func (r *room) load(f []string) {
	s := r.catalog.Current()
	var l load
	l.brokers = map[int32]brokerLoad{}
	for t := range s.Topics() {
		if len(f) == 0 || t.Name == f[0] {
			l.topic(t, nil, 1)
		}
	}
	var list []string
	for b := range s.Brokers() {
		list = append(list, fmt.Sprintf("%d: %d replicas, %d preferred", b.ID, l.brokers[b.ID].replicas, l.brokers[b.ID].leaders))
	}
	r.printf("load %s", strings.Join(list, "; "))
}

// racks are how many replicas of a topic's partitions lie in each rack.
func (r *room) racks(topic string) {
	s := r.catalog.Current()
	for i, p := range s.Topic(topic).Partitions {
		list := []string{}
		for _, id := range p.Replicas {
			list = append(list, fmt.Sprintf("%d@%s", id, s.Broker(id).Rack))
		}
		r.printf("  %d %v", i, list)
	}
}

// directories are those of a topic's replicas, as brokers are made here: dd<broker>… by the broker's number.
func (r *room) directories(topic string) {
	for i, p := range r.catalog.Current().Topic(topic).Partitions {
		var list []string
		for broker, id := range p.State().Directories {
			list = append(list, fmt.Sprintf("%d:%x", broker, id[:2]))
		}
		slices.Sort(list)
		r.printf("  %d directories %v", i, list)
	}
}

func (r *room) leave(f []string) {
	id, _ := strconv.Atoi(f[0])
	req := Leave{Broker: int32(id)}
	if b := r.catalog.Current().Broker(req.Broker); b != nil && !slices.Contains(f, "stale") {
		req.BrokerEpoch = b.Epoch
	}
	r.c.Leave(req, func(led int, err error) { r.printf("leave %d: still leads %d, %v", id, led, err) })
}

// failNext lets the next multi that creates or sets a path with that text fail: fail full|uncertain|lost|version [applied] [at TEXT]
func (r *room) failNext(f []string) {
	err := map[string]error{"full": catalog.ErrFull, "uncertain": catalog.ErrUncertain, "quorum": catalog.ErrNoQuorum, "closed": catalog.ErrClosed}[f[0]]
	if err == nil {
		panic("unknown failure " + f[0])
	}
	text, always := f[len(f)-1], slices.Contains(f, "always")
	r.tree.fail = func(ops []catalog.Op) (error, bool) {
		if slices.Contains(f, "at") && !slices.ContainsFunc(ops, func(op catalog.Op) bool { return strings.Contains(op.Path, text) }) {
			return nil, true
		}
		if !always {
			r.tree.fail = nil
		}
		return err, slices.Contains(f, "applied")
	}
}

func (r *room) dump(f []string) {
	s := r.catalog.Current()
	if len(f) == 0 {
		r.printf("cluster %s, controller %d, epoch %d, %d topics, %d partitions, multis %d", s.ClusterID, s.ControllerID, s.ControllerEpoch, s.TopicCount(), s.PartitionCount(), r.tree.multis)
		for name, m := range s.ConfiguredBrokers() {
			r.printf("config of broker %s: %v", name, m)
		}
	}
	for t := range s.Topics() {
		if len(f) > 0 && f[0] != t.Name {
			continue
		}
		r.printf("%s deleting=%v auto=%v %v", t.Name, t.Deleting, t.AutoReplication, t.Overrides)
		for i, p := range t.Partitions {
			if i >= 4 {
				r.printf("  … %d more", len(t.Partitions)-i)
				break
			}
			moving := ""
			if p.Reassigning() {
				moving = fmt.Sprintf(" adding=%v removing=%v", p.Adding, p.Removing)
			}
			r.printf("  %d replicas=%v leader=%d may lead=%d epoch=%d isr=%v elr=%v%s", i, p.Replicas, p.Leader, s.LeaderOf(p), p.LeaderEpoch, p.ISR, p.ELR, moving)
		}
	}
}
