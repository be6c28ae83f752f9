package kafkaserver

import (
	"testing"
	"testing/synctest"
	"time"

	"cairn/engine/broker/wire"
	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Who holds memory and needs more of it does not stand behind those who hold none: they wait for what it holds.
func TestBudgetHoldersGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{max: 100}
		never := make(chan struct{})
		if !b.take(80, never) {
			t.Fatal("no room for the first")
		}
		newcomer := make(chan bool, 1)
		go func() { newcomer <- b.take(90, never) }()
		synctest.Wait()
		if !b.takeMore(20, never) {
			t.Fatal("no room for more of the first")
		}
		more := make(chan bool, 1)
		go func() { more <- b.takeMore(10, never) }()
		synctest.Wait()
		if len(more) != 0 {
			t.Fatal("more than there is")
		}
		b.give(20)
		synctest.Wait()
		if len(more) != 1 || len(newcomer) != 0 {
			t.Fatal("the newcomer went first")
		}
		b.give(90)
		if !<-newcomer {
			t.Fatal("the newcomer was left behind")
		}
		b.give(90)
		if used, _ := b.load(); used != 0 {
			t.Errorf("%d bytes are left", used)
		}
	})
}

// Requests that wait for their answers' memory and hold all of it with their frames do not wait for each other for ever.
func TestBulkyRequestsDoNotWaitForEachOther(t *testing.T) {
	body := metadataRequest("t")
	for len(body.Topics) < 1000 {
		body.Topics = append(body.Topics, body.Topics[0])
	}
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.BulkyMax, l.StallTimeout = 1, 50*time.Millisecond }))
	r.topic("t", 1)
	frame := (&client{t: t}).frame(9, body)
	r.budget.mu.Lock()
	r.budget.max = 2*int64(wire.FrameCost(len(frame))+1000*40) + bulkyBytes/2 // two, with what they decode into, and not their answers
	r.budget.mu.Unlock()
	r.bulky <- struct{}{} // the place is taken, until all the memory is
	var clients []*client
	for range 3 {
		c := r.dial()
		c.write(frame)
		clients = append(clients, c)
	}
	r.wait("no memory left", func() bool { used, _ := r.budget.load(); return used > r.budget.max })
	<-r.bulky
	answered := 0
	for _, c := range clients {
		if _, _, err := c.readFrame(); err == nil {
			answered++
		}
	}
	if answered == 0 {
		t.Error("nobody was answered")
	}
	ask(r.dial(), 9, metadataRequest("t"), kmsg.NewPtrMetadataResponse())
}
