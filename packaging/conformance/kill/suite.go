package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"cairn/packaging/bench/box"
)

const (
	partitions    = 6
	readyTimeout  = 30 * time.Second
	checkTimeout  = 60 * time.Second
	settleTimeout = 90 * time.Second
	stopTimeout   = 30 * time.Second
	aliveMin      = 20 * time.Millisecond   // between the check after a start and the kill
	aliveMax      = 1500 * time.Millisecond // likewise
	startKillMax  = 150 * time.Millisecond  // a kill while starting comes within this time
	startKillOdds = 8                       // one start in so many is killed while it starts
	failuresMax   = 3                       // failed rounds after which the suite goes to its end
)

var (
	longLived = []int32{0, 1, 2, 3} // partitions of the producer that lives through all kills
	perRound  = []int32{4, 5}       // partitions of the producers that live for one round
)

// Suite is one whole run.
type Suite struct {
	box       *box.Box
	ledger    *Ledger
	allowance Allowance
	perRound  int64 // bytes of a round's allowance
	random    *rand.Rand
	readers   []*Reader
	producer  *Producer
	consumer  *Consumer
	session   *Session

	passed, failed int
}

// NewSuite prepares a run in an empty directory and starts nothing.
func NewSuite(binary, dir string, rounds int, bytes int64, seed uint64) (*Suite, error) {
	b, err := box.New(box.Config{Binary: binary, Data: filepath.Join(dir, "data"), Log: filepath.Join(dir, "cairn.log")})
	if err != nil {
		return nil, err
	}
	ledger, err := NewLedger(filepath.Join(dir, "acknowledged"), partitions)
	if err != nil {
		return nil, err
	}
	return &Suite{box: b, ledger: ledger, perRound: bytes / int64(rounds), random: rand.New(rand.NewPCG(seed, 0)), readers: newReaders()}, nil
}

func newReaders() []*Reader {
	var all []*Reader
	for p := range int32(partitions) {
		all = append(all, NewReader(p))
	}
	return all
}

// Run does the rounds and the final checks. An error means that the run could not go on; what was lost is in failed.
func (s *Suite) Run(ctx context.Context, rounds int) error {
	defer s.box.Kill()
	defer s.ledger.Close()
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.session.Close()
	defer s.consumer.Close()
	defer s.producer.Close()
	for round := 1; round <= rounds && s.failed < failuresMax; round++ {
		if err := s.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return s.end(ctx)
}

// begin starts the box for the first time and the clients.
func (s *Suite) begin(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	err := admin(s.box.Kafka, func(client *kadm.Client) error {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		if _, err := client.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
		_, err := endOffsets(ctx, client, partitions)
		return err
	})
	if err != nil {
		return err
	}
	if s.session, err = StartSession(s.ledger, s.box.ZooKeeper); err != nil {
		return err
	}
	if s.consumer, err = StartConsumer(s.ledger, s.box.Kafka); err != nil {
		return err
	}
	s.producer, err = StartProducer(s.ledger, &s.allowance, s.box.Kafka, longLived, kgo.NoCompression(), s.random.Uint64())
	if err != nil {
		return err
	}
	// A new group waits for members before it begins (group.initial.rebalance.delay.ms): until then it would not be tested.
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return retry(ctx, func() error {
		if s.ledger.Totals().Commits == 0 {
			return errors.New("the group has committed nothing")
		}
		return nil
	})
}

// start starts the box; one start in startKillOdds is killed on its way, more than once if chance wants it.
func (s *Suite) start(ctx context.Context) error {
	for s.session != nil && s.random.IntN(startKillOdds) == 0 {
		if err := s.box.Spawn(); err != nil {
			return err
		}
		if err := wait(ctx, time.Duration(s.random.Int64N(int64(startKillMax)))); err != nil {
			return err
		}
		s.box.Kill()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.box.Start(ctx)
}

// round lets the clients work, kills the box at a random moment, starts it again and checks what is cheap to check.
func (s *Suite) round(ctx context.Context, round int) error {
	s.allowance.left.Store(s.perRound)
	fresh, err := StartProducer(s.ledger, &s.allowance, s.box.Kafka, perRound, kgo.SnappyCompression(), s.random.Uint64())
	if err != nil {
		return err
	}
	alive := aliveMin + time.Duration(s.random.Int64N(int64(aliveMax-aliveMin)))
	err = wait(ctx, alive)
	crashed := !s.box.Running()
	s.box.Kill()
	fresh.Close()
	if err != nil {
		return err
	}
	if crashed {
		s.ledger.Fault("the box ended by itself")
	}
	if err := s.ledger.Kill(round); err != nil {
		return err
	}
	s.consumer.Hold()
	begin := time.Now()
	err = s.start(ctx)
	ready := time.Since(begin)
	if err == nil {
		err = s.checkCommitted(ctx)
	}
	s.consumer.Release()
	if err != nil {
		return err
	}
	if err := s.check(ctx, s.readers, false); err != nil {
		s.ledger.Fault("%v", err)
	}
	so := s.ledger.Totals()
	s.report("round %d: killed after %v, ready in %v; acknowledged so far: %d records, %d MB, %d commits, %d znode operations",
		round, alive.Round(time.Millisecond), ready.Round(time.Millisecond), so.Records, so.Bytes/1e6, so.Commits, s.session.Znodes())
	return nil
}

// checkCommitted looks at the group's offsets before its member can commit anything new.
func (s *Suite) checkCommitted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return admin(s.box.Kafka, func(client *kadm.Client) error {
		committed, err := committedOffsets(ctx, client, partitions)
		if err != nil {
			return err
		}
		for p, owes := range s.ledger.Owed() {
			if c := committed[p]; c < owes.committed || c > owes.attempted {
				s.ledger.Fault("partition %d: committed is %d after the start; acknowledged was %d, tried at most %d", p, c, owes.committed, owes.attempted)
			}
		}
		return nil
	})
}

// check compares the box with the ledger: the records that the readers have not read yet, committed offsets, znodes. With
// all, nothing may be under way, the group must have come to the end, and every single acknowledgement is looked up.
func (s *Suite) check(ctx context.Context, readers []*Reader, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	before := s.ledger.Owed()
	var ends, committed []int64
	err := admin(s.box.Kafka, func(client *kadm.Client) (err error) {
		if committed, err = committedOffsets(ctx, client, partitions); err != nil {
			return err
		}
		ends, err = endOffsets(ctx, client, partitions)
		return err
	})
	if err != nil {
		return err
	}
	after := s.ledger.Owed()
	for p := range ends {
		switch {
		case ends[p] < before[p].end:
			s.ledger.Fault("partition %d ends at %d, records up to %d were acknowledged", p, ends[p], before[p].end-1)
		case ends[p] < before[p].seen:
			s.ledger.Fault("partition %d ends at %d, the group was given records up to %d", p, ends[p], before[p].seen-1)
		}
		if c := committed[p]; c < before[p].committed || c > after[p].attempted || c > ends[p] {
			s.ledger.Fault("partition %d: committed is %d; acknowledged was %d, tried at most %d, the log ends at %d", p, c, before[p].committed, after[p].attempted, ends[p])
		} else if all && c != ends[p] {
			s.ledger.Fault("partition %d: committed is %d at the end of the suite, the log ends at %d", p, c, ends[p])
		}
	}
	if err := ReadTo(ctx, s.ledger, s.box.Kafka, readers, ends); err != nil {
		return err
	}
	if all {
		for _, r := range readers {
			r.settle(s.ledger)
		}
	}
	s.session.Check(ctx, s.ledger)
	return nil
}

// end lets the clients come to rest, reads everything, stops the box cleanly, and reads everything again.
func (s *Suite) end(ctx context.Context) error {
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := s.producer.Pause(settling); err != nil {
		s.ledger.Fault("not every record was acknowledged %v after the last kill: %v", settleTimeout, err)
	}
	if err := s.drain(settling); err != nil {
		s.ledger.Fault("%v", err)
	}
	s.report("the clients come to rest after the last kill")
	for _, name := range []string{"after the last kill", "after a clean stop and start"} {
		if name != "after the last kill" {
			if err := s.box.Stop(stopTimeout); err != nil {
				s.ledger.Fault("%v", err)
			}
			s.box.Kill()
			if err := s.start(ctx); err != nil {
				return err
			}
		}
		if err := s.check(ctx, newReaders(), true); err != nil {
			s.ledger.Fault("%v", err)
		}
		so := s.ledger.Totals()
		s.report("%s: each of %d acknowledged records (%d MB) once, whole and in order; offsets; znodes", name, so.Records, so.Bytes/1e6)
	}
	return nil
}

// drain waits until the group has committed the end of every partition.
func (s *Suite) drain(ctx context.Context) error {
	return admin(s.box.Kafka, func(client *kadm.Client) error {
		return retry(ctx, func() error {
			ends, err := endOffsets(ctx, client, partitions)
			if err != nil {
				return err
			}
			committed, err := committedOffsets(ctx, client, partitions)
			if err != nil {
				return err
			}
			for p := range ends {
				if committed[p] < ends[p] && ends[p] > 0 {
					return fmt.Errorf("partition %d: the group does not come to the end: it has committed %d of %d", p, committed[p], ends[p])
				}
			}
			return nil
		})
	})
}

// report prints one case, and its faults if it has any.
func (s *Suite) report(format string, args ...any) {
	faults := s.ledger.TakeFaults()
	name := fmt.Sprintf(format, args...)
	if len(faults) == 0 {
		s.passed++
		fmt.Println("ok   " + name)
		return
	}
	s.failed++
	fmt.Println("FAIL " + name)
	for _, fault := range faults {
		fmt.Println("     " + fault)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.New("the suite's time is over, or it was interrupted")
	case <-time.After(d):
		return nil
	}
}
