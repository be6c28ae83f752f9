package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/packaging/conformance/boxes"
)

const (
	warmMin    = 500 * time.Millisecond // of load before the fault
	warmMax    = 1500 * time.Millisecond
	afterMax   = 1500 * time.Millisecond // of load after it has ended
	beginMax   = 60 * time.Second        // until new topics are whole
	wholeMax   = 60 * time.Second        // until every partition has a leader and all replicas in sync
	restMax    = 60 * time.Second        // until every record is acknowledged, and every group at the end
	equalMax   = 15 * time.Second        // until all replicas have the same end
	awayMax    = 5 * time.Second         // a replica that cannot be served is made anew where there is room
	measureMax = 30 * time.Second        // for the next acknowledgement of every partition
)

// Suite is the rounds of one run on one ensemble.
type Suite struct {
	dir       string
	classpath string // of Kafka's jars
	state     State
	without   []string // kinds that mixed leaves out
	network   *boxes.Network
	cluster   *boxes.Cluster
	disks     *Disks
	ledger    *Ledger
	journal   *Journal
	ends      []int64

	gate       *Gate
	javaLedger *JavaLedger // nil without Java producers
	java       []*Java
	producers  []*Producer
	consumers  []*Consumer
	watchers   []*Watcher
	prober     *Prober
	stock      *Stock
	admin      *Admin
	results    []Result
}

// Result is one round's.
type Result struct {
	Kind         string
	Times, Stock []time.Duration
	Whole        time.Duration
	Violations   int
}

// NewSuite starts the boxes and the load, or goes on with what an earlier run has left in dir.
func NewSuite(ctx context.Context, binary, classpath, dir string, shape Shape, seed uint64) (*Suite, error) {
	s := &Suite{dir: dir, classpath: classpath, gate: NewGate()}
	state, again, err := loadState(dir)
	if err != nil {
		return nil, err
	}
	if !again {
		state = State{Seed: seed, Shape: shape}
	}
	if state.Shape.Java > 0 && classpath == "" {
		return nil, errors.New("the load has Java producers, and no jars of Kafka were told")
	}
	s.state = state
	s.state.JavaRuns++
	if err = s.begin(ctx, binary, again); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Suite) begin(ctx context.Context, binary string, again bool) (err error) {
	shape := s.state.Shape
	var places []Place
	for t := range shape.Topics {
		for p := range shape.Partitions {
			places = append(places, Place{topicName(t), int32(p)})
		}
	}
	s.ledger = NewLedger(places, shape.Keys)
	s.ends = make([]int64, len(places))
	if again {
		if err := s.ledger.restore(s.dir, &s.state); err != nil {
			return err
		}
		s.ends = s.state.Ends
	}
	if s.journal, err = openJournal(s.dir, s.ledger); err != nil {
		return err
	}
	if shape.Java > 0 {
		if s.javaLedger, err = OpenJavaLedger(s.dir, s.state.JavaRuns, s.ledger.Violation); err != nil {
			return err
		}
	}
	if s.network, err = boxes.NewNetwork(s.state.Octet); err != nil {
		return err
	}
	s.state.Octet = s.network.Octet()
	if shape.DiskMB > 0 {
		if s.disks, err = MountDisks(s.dir, shape.DiskMB); err != nil {
			return err
		}
	}
	if s.cluster, err = boxes.NewCluster(s.network, binary, s.dir); err != nil {
		return err
	}
	s.cluster.Flags = func(box int) []string {
		return []string{"--kafka-listen", s.kafka(box), "--log-level", "debug"}
	}
	for box := 1; box <= boxes.Count; box++ {
		if err := s.cluster.Start(box); err != nil {
			return err
		}
	}
	if _, err := s.cluster.Whole(ctx); err != nil {
		return err
	}
	if s.admin, err = NewAdmin(s.ledger, s.seeds(), s.kafka); err != nil {
		return err
	}
	if !again {
		if err := s.create(ctx); err != nil {
			return err
		}
	}
	if _, err := s.admin.Whole(ctx, beginMax); err != nil {
		return fmt.Errorf("the topics are not whole after %v: %w", beginMax, err)
	}
	if err := s.journal.Save(s.state, s.ledger, s.ends, false); err != nil {
		return err
	}
	return s.clients(ctx, again)
}

func topicName(n int) string { return fmt.Sprintf("t%02d", n) }

func (s *Suite) kafka(box int) string { return s.network.ClientAddress(box) + ":9092" }

func (s *Suite) seeds() (seeds []string) {
	for box := 1; box <= boxes.Count; box++ {
		seeds = append(seeds, s.kafka(box))
	}
	return seeds
}

// topicConfig has a full disk refuse records, rather than remove the oldest: what is acknowledged must stay.
func topicConfig() map[string]*string {
	refuse := "refuse"
	return map[string]*string{"cairn.full": &refuse}
}

// create makes the topics, once all brokers are there.
func (s *Suite) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beginMax)
	defer cancel()
	for { // a replica whose directory was wiped is made anew after that time, where the factor was left to the cluster
		away := fmt.Sprint(awayMax.Milliseconds())
		set, err := s.admin.kadm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cairn.rebalance.away.ms", Value: &away}})
		for _, one := range set {
			err = errors.Join(err, one.Err)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("set the time after which replicas are made anew: %w", err)
		}
		boxes.Pause(ctx, 50*time.Millisecond)
	}
	for t := range s.state.Shape.Topics {
		if err := s.createTopic(ctx, topicName(t), s.state.Shape.Partitions); err != nil {
			return err
		}
	}
	for n := range s.state.Shape.Java {
		if err := s.createTopic(ctx, javaTopic(n), javaPartitions); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) createTopic(ctx context.Context, name string, partitions int) error {
	for {
		_, err := s.admin.kadm.CreateTopic(ctx, int32(partitions), -1, topicConfig(), name)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
		boxes.Pause(ctx, 50*time.Millisecond)
	}
}

// clients starts the load.
func (s *Suite) clients(ctx context.Context, again bool) error {
	if again && !s.state.Clean {
		for group := range groupsCount {
			committed, err := s.admin.Committed(ctx, group)
			if err != nil {
				return err
			}
			for place, at := range committed {
				s.ledger.Begin(group, place, at)
			}
		}
	}
	var topics []string
	for t := range s.state.Shape.Topics {
		topics = append(topics, topicName(t))
	}
	for i := range producersCount {
		p, err := StartProducer(s.ledger, s.seeds(), i, s.state.Shape.Keys, s.gate, s.state.Seed+uint64(s.state.Rounds)<<32)
		if err != nil {
			return err
		}
		s.producers = append(s.producers, p)
	}
	for group := range groupsCount {
		for range membersCount {
			c, err := StartConsumer(s.ledger, s.seeds(), topics, group)
			if err != nil {
				return err
			}
			s.consumers = append(s.consumers, c)
		}
		w, err := StartWatcher(s.ledger, s.seeds(), group)
		if err != nil {
			return err
		}
		s.watchers = append(s.watchers, w)
	}
	s.prober = StartProber(s.ledger, s.kafka)
	return s.startJava(ctx)
}

// Close ends all; the boxes cleanly.
func (s *Suite) Close() error {
	if s.stock != nil {
		s.stock.Close()
	}
	if s.prober != nil {
		s.prober.Close()
	}
	s.java = closeAll(s.java)
	for _, p := range s.producers {
		p.Close()
	}
	for _, w := range s.watchers {
		w.Close()
	}
	for _, c := range s.consumers {
		c.Close()
	}
	if s.admin != nil {
		s.admin.Close()
	}
	s.stock, s.prober, s.producers, s.watchers, s.consumers, s.admin = nil, nil, nil, nil, nil, nil
	var failures []error
	if s.cluster != nil {
		failures = append(failures, s.cluster.Close())
	}
	if s.disks != nil {
		failures = append(failures, s.disks.Close())
	}
	if s.network != nil {
		failures = append(failures, s.network.Close())
	}
	if s.journal != nil {
		failures = append(failures, s.journal.Close())
	}
	if s.javaLedger != nil {
		failures = append(failures, s.javaLedger.Close())
	}
	s.cluster, s.disks, s.network, s.journal, s.javaLedger = nil, nil, nil, nil, nil
	return errors.Join(failures...)
}

// Round does one fault and judges it. An error means that the run cannot go on.
func (s *Suite) Round(ctx context.Context, kind string) error {
	seed := s.state.Seed + uint64(s.state.Rounds)
	random := rand.New(rand.NewPCG(seed, 7))
	stock := kind == "kill"
	if kind == mixed {
		for kind = kinds[random.IntN(len(kinds))]; kind == "full" && s.disks == nil || slices.Contains(s.without, kind); {
			kind = kinds[random.IntN(len(kinds))]
		}
	}
	fault := NewFault(kind, Rig{s.cluster, s.disks, func(box int) bool { return len(s.prober.Led(box)) > 0 }}, random)
	if stock && s.stock == nil {
		var err error
		if s.stock, err = StartStock(s.ledger, s.seeds()); err != nil {
			return err
		}
	}
	if err := s.journal.Save(s.state, s.ledger, s.ends, false); err != nil {
		return err
	}
	result := Result{Kind: kind}
	if err := s.eachJava((*Java).Resume); err != nil {
		return err
	}
	s.gate.Open()
	if stock {
		s.stock.gate.Open()
	}
	before, _ := s.ledger.Totals()
	begun := time.Now()
	boxes.Pause(ctx, boxes.Between(random, warmMin, warmMax))
	var run *Run
	if fault.Victim != 0 {
		run = s.prober.Probe(s.prober.Led(fault.Victim))
		defer run.Stop()               // a round that cannot go on ends it too
		boxes.Pause(ctx, 10*probePace) // all of them have been acknowledged once
	}
	at := time.Now()
	if run != nil {
		run.Fault(at)
	}
	if stock {
		s.stock.Fault(at)
	}
	if err := fault.Begin(); err != nil {
		return err
	}
	held := fault.Hold(ctx)
	if err := fault.End(); err != nil {
		return err
	}
	ended := time.Now()
	if held != nil {
		return held
	}
	if run != nil {
		measuring, cancel := context.WithTimeout(ctx, measureMax)
		var all bool
		if result.Times, all = run.End(measuring); !all {
			s.ledger.Violation("not every partition that box %d led has acknowledged a record %v after the fault", fault.Victim, measureMax)
		}
		if stock {
			result.Stock = s.stock.Times(measuring, run.places)
		}
		cancel()
	}
	if _, err := s.admin.Whole(ctx, wholeMax); err != nil {
		s.ledger.Violation("%v after the fault has ended not all is whole: %v", wholeMax, err)
	}
	result.Whole = time.Since(ended)
	boxes.Pause(ctx, boxes.Between(random, 0, afterMax))
	err := s.judge(ctx)
	if crashed := s.cluster.Crashed(); crashed != nil {
		s.ledger.Violation("%v", crashed)
		if err == nil {
			err = errors.New("a box has ended by itself")
		}
	}
	acks, commits := s.ledger.Totals()
	s.state.Rounds++
	s.report(seed, at, begun, fault, result, acks-before, commits)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.journal.Save(s.state, s.ledger, s.ends, true)
}

// judge lets the load come to rest and compares everything.
func (s *Suite) judge(ctx context.Context) error {
	flushing, cancel := context.WithTimeout(ctx, restMax)
	defer cancel()
	rest := s.gate.Shut(flushing)
	if s.stock != nil {
		rest = s.stock.gate.Shut(flushing) && rest
	}
	if !rest {
		s.ledger.Violation("records have no outcome %v after the fault", restMax)
		return errors.New("producers are held up")
	}
	for i, p := range s.producers {
		if err := p.client.Flush(flushing); err != nil {
			s.ledger.Violation("producer %d has %d records without an outcome %v after all was whole", i, p.client.BufferedProduceRecords(), restMax)
			return errors.New("records have no outcome")
		}
	}
	err := s.eachJava(func(j *Java) error { return errors.Join(j.Moves(ctx, restMax), j.Hold()) })
	if err != nil {
		s.ledger.Violation("after all was whole: %v", err)
		return errors.New("a Java producer is held up")
	}
	ends, err := s.admin.Drain(ctx, restMax)
	if err != nil {
		s.ledger.Violation("%v after all was whole: %v", restMax, err)
		return errors.New("a group does not come to the end")
	}
	s.ends = ends
	all, err := s.admin.Whole(ctx, wholeMax)
	if err != nil {
		s.ledger.Violation("after the load has ended: %v", err)
		return errors.New("not all is whole")
	}
	deadline := time.Now().Add(equalMax)
	for _, p := range all {
		s.compare(ctx, p, deadline)
	}
	return nil
}

// compare reads a partition's log from every box, and compares them with each other and the ledger. Until the deadline they may
// differ.
func (s *Suite) compare(ctx context.Context, p Partition, deadline time.Time) {
	where := Place{p.Topic, p.Partition}
	for {
		place, java := s.ledger.Place(p.Topic, p.Partition), s.javaLedger.Owns(p.Topic)
		compare, compacted := differ, place < 0 && !java
		if compacted {
			compare = differCompacted
		}
		logs, err := s.logs(where, compacted)
		what := ""
		if err == nil {
			for _, l := range logs[1:] {
				if what = compare(logs[0], l); what != "" {
					break
				}
			}
		}
		if err == nil && what == "" && place >= 0 && logs[0].End() != s.ends[place] {
			what = fmt.Sprintf("the log ends at %d, the high watermark is %d", logs[0].End(), s.ends[place])
		}
		if err == nil && what == "" {
			if place >= 0 {
				s.ledger.Judge(place, logs[0])
			} else if java {
				s.javaLedger.Judge(where, logs[0])
			}
			return
		}
		if time.Now().Before(deadline) && ctx.Err() == nil { // a follower may be a moment behind, and a file be read while it grows
			boxes.Pause(ctx, 20*time.Millisecond)
			continue
		}
		if err != nil {
			what = err.Error()
		}
		s.ledger.Violation("%v (leader %d, epoch %d): %s", where, p.Leader, p.Epoch, what)
		return
	}
}

func (s *Suite) logs(where Place, compacted bool) (logs []*Log, err error) {
	for box := 1; box <= boxes.Count; box++ {
		l, err := readLog(box, filepath.Join(boxDir(s.dir, box), "cairn", "topics", where.String()), compacted)
		if err != nil {
			return nil, err
		}
		logs = append(logs, l)
	}
	return logs, nil
}

// Finish stops everything cleanly and compares what is on the disks once more.
func (s *Suite) Finish(ctx context.Context) error {
	all, err := s.admin.Whole(ctx, wholeMax)
	if err != nil {
		return err
	}
	if err := s.eachJava(func(j *Java) error { return j.Finish(ctx) }); err != nil {
		s.ledger.Violation("%v", err)
	}
	s.watchers, s.consumers = closeAll(s.watchers), closeAll(s.consumers) // leaving a group is written too
	if err := s.journal.Save(s.state, s.ledger, s.ends, true); err != nil {
		return err
	}
	boxes.Pause(ctx, time.Second)
	stopped := s.cluster.Close()
	if stopped != nil {
		s.ledger.Violation("a clean stop: %v", stopped)
	}
	for _, p := range all {
		if s.ledger.Place(p.Topic, p.Partition) >= 0 || s.javaLedger.Owns(p.Topic) { // a box that stops moves the groups, which is written while others stop
			s.compare(ctx, p, time.Time{})
		}
	}
	s.cluster = nil
	acks, commits := s.ledger.Totals()
	count, violations := s.ledger.Take()
	fmt.Printf("%s after a clean stop: %d records of %d partitions, %d acknowledged, and %d to Java in this run, %d commits of this run, violations %d\n",
		mark(count), sum(s.ends), len(s.ends), acks, s.javaAcked(), commits, count)
	printSome(violations)
	if count > 0 {
		s.results = append(s.results, Result{Kind: "the clean stop", Violations: count})
	}
	return nil
}

func closeAll[T interface{ Close() }](all []T) []T {
	for _, one := range all {
		one.Close()
	}
	return nil
}

func sum(all []int64) (n int64) {
	for _, one := range all {
		n += one
	}
	return n
}
