package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A box that stops has others lead what it led before it closes a connection, also when it is the controller's; whoever produces
// sees no error, and it is in sync again when it is back.
func TestABoxThatStopsHandsOver(t *testing.T) {
	s, producer := threeBrokersWritten(t, 6, 60)

	ctx, cancel := context.WithCancel(t.Context())
	var acknowledged atomic.Int64
	failures := make(chan error, 1)
	go func() {
		defer close(failures)
		for i := 0; ctx.Err() == nil; i++ {
			if err := producer.ProduceSync(context.WithoutCancel(ctx), &kgo.Record{Topic: "t", Key: fmt.Append(nil, i)}).FirstErr(); err != nil {
				failures <- err
				return
			}
			acknowledged.Add(1)
		}
	}()
	goesOn := func(what string) {
		before := acknowledged.Load()
		s.eventually("records are acknowledged "+what, func() bool { return acknowledged.Load() > before+20 })
	}
	goesOn("before anybody stops")
	for _, leads := range []bool{true, false} {
		gone := s.leader()
		if !leads {
			gone = gone%3 + 1
		}
		n := s.nodes[gone]
		n.broker.leave()
		for id, other := range s.nodes {
			s.eventually("the box that stops is nobody's leader", func() bool {
				c := other.broker.catalog.Current()
				for _, p := range c.Topic("t").Partitions {
					if c.LeaderOf(p) == int32(gone) || len(p.ISR) != 2 {
						return false
					}
				}
				return true
			})
			if c := other.broker.catalog.Current(); c.Broker(int32(gone)) == nil {
				t.Fatalf("box %d has lost the registration of box %d, which still runs", id, gone)
			}
		}
		goesOn("while the box still runs")
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		delete(s.nodes, gone)
		goesOn("without it")
		s.open(gone)
		s.ready(gone)
		s.eventually("it is in sync again", func() bool {
			for _, p := range s.nodes[gone].broker.catalog.Current().Topic("t").Partitions {
				if len(p.ISR) != 3 {
					return false
				}
			}
			return true
		})
	}
	cancel()
	if err := <-failures; err != nil {
		t.Fatal(err)
	}
}

// Where nobody else can lead, a stop does not wait for it.
func TestABoxThatStopsAloneDoesNotWait(t *testing.T) {
	s := threeBrokers(t)
	stay := s.leader()
	for id, n := range s.nodes {
		if id != stay {
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	began := time.Now()
	if err := s.nodes[stay].Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > leaveTime+3*time.Second {
		t.Fatalf("the stop took %v", took)
	}
	clear(s.nodes)
}
