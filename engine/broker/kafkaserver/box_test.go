package kafkaserver

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/remote"
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/platform/clock"
	"cairn/platform/mailbox"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// dialBox is another box's connection, as the link would hand it over.
func (r *rig) dialBox(broker int32) *client {
	r.t.Helper()
	near, err := r.openBox(broker)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = near.Close() })
	_ = near.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t: r.t, conn: near}
}

func (r *rig) openBox(broker int32) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	go r.Server.ServeBox(far, broker)
	return near, nil
}

// leaders carries a follower's questions to another rig.
type leaders struct {
	*remote.Brokers
	of *rig
}

func (l leaders) Vouch(_ int32, vouchers []fetcher.Voucher) {
	for _, v := range vouchers {
		name := l.of.catalog.Current().TopicByID(catalog.UUID(v.Topic)).Name
		l.of.replica(name, v.Partition).Vouch(v.Member, v.Epoch, v.Offset)
	}
}

// follower is a second box's replica of partition 0 of a topic that the rig leads.
func (r *rig) follower(topic string, on *rig, f *fetcher.Fetcher) *replica.Replica {
	r.t.Helper()
	id := r.topic(topic, 1)
	r.replica(topic, 0).Lead(1, partition.Membership{Epoch: 1, Replicas: []partition.Member{{Broker: 2, Epoch: 20}}, InSync: []int32{rigBroker, 2}, InSyncMin: 2},
		func(int32, error) {})
	r.wait("two in sync", func() bool { return r.replica(topic, 0).View().InSync == 2 })
	log, err := on.dir.Create(seglog.TopicPartition{Topic: topic, Partition: 0}, seglog.ID(id), seglog.DefaultConfig())
	if err != nil {
		r.t.Fatal(err)
	}
	rep, err := on.shards.Open(log, 0, r.replica(topic, 0).View().Config)
	if err != nil {
		r.t.Fatal(err)
	}
	rep.Resign(1)
	f.Follow(rep, rigBroker, true)
	return rep
}

// A second box follows through the same Fetch that clients use: what is produced with acks=all is answered when that box has
// vouched for it, also of a topic that comes while the follower's question waits, and long before that wait is over.
func TestAFollowerOverTheWire(t *testing.T) {
	first, second := newRig(t), newRig(t)
	brokers := remote.New(remote.Config{FrameBytesMax: 16 << 20}, remote.Deps{Open: first.openBox})
	t.Cleanup(brokers.Close)
	f := fetcher.New(fetcher.Config{BrokerID: 2, WaitMax: time.Hour, WaitPending: time.Hour}, fetcher.Deps{
		Runtime: mailbox.NewThreads(clock.System()), Leaders: leaders{brokers, first}})
	t.Cleanup(f.Close)
	f.Registered(20)
	producer := first.dial()
	var followers []*replica.Replica
	for n := range 3 {
		topic := fmt.Sprint("t", n)
		followers = append(followers, first.follower(topic, second, f))
		// Nobody tells the fetcher of this follower's flushes as a shard would; it looks at the view when it follows.
		for range 5 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				producer.produceAcks(-1, topic, 0, "a", "b")
			}()
			for over := false; !over; {
				select {
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
					f.Vouched(followers[n])
				}
			}
		}
		leader := first.replica(topic, 0).View()
		first.wait("the follower to have it all", func() bool { return followers[n].View().End == leader.End })
		if leader.HighWatermark != 10 || followers[n].View().Vouches != 10 {
			t.Fatalf("%s: high watermark %d, the follower vouches for %d", topic, leader.HighWatermark, followers[n].View().Vouches)
		}
	}
}

// following is a fetch of partition 0 of t by a follower in epoch 1.
func following(offset int64) *kmsg.FetchRequest {
	req := fetchRequest("t", offset, 0)
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = 1
	return req
}

// waiting is a fetch of partition 0 of t that waits for more than there is.
func waiting(offset int64) *kmsg.FetchRequest {
	req := following(offset)
	req.MinBytes, req.MaxWaitMillis = 1, 20_000
	return req
}

// A follower is given what is not acknowledged yet, and wakes when something is appended; a consumer sees neither, and a client
// that calls itself a broker is a consumer.
func TestAFollowerFetchesToTheEnd(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	second := partition.Member{Broker: 2, Epoch: 20}
	r.replica("t", 0).Lead(1, partition.Membership{Epoch: 1, Replicas: []partition.Member{second}, InSync: []int32{rigBroker, 2}},
		func(int32, error) {})
	r.wait("two in sync", func() bool { return r.replica("t", 0).View().InSync == 2 })
	producer, consumer, follower := r.dial(), r.dial(), r.dialBox(2)
	producer.produceAcks(1, "t", 0, "a")
	req := fetchRequest("t", 0, 0)
	req.ReplicaID = 2
	if p := consumer.fetch(11, req).Topics[0].Partitions[0]; len(valuesOf(t, p.RecordBatches)) > 0 || p.ErrorCode != 0 || p.HighWatermark != 0 {
		t.Fatalf("a client was given %v, high watermark %d, error %d", valuesOf(t, p.RecordBatches), p.HighWatermark, p.ErrorCode)
	}
	if p := follower.fetch(11, fetchRequest("t", 0, 0)).Topics[0].Partitions[0]; p.ErrorCode != 74 || len(p.RecordBatches) > 0 {
		t.Fatalf("a follower that has heard of no leader: error %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
	}
	if p := follower.fetch(11, following(0)).Topics[0].Partitions[0]; !slices.Equal(valuesOf(t, p.RecordBatches), []string{"a"}) || p.HighWatermark != 0 {
		t.Fatalf("a follower was given %v, high watermark %d", valuesOf(t, p.RecordBatches), p.HighWatermark)
	}
	follower.send(11, waiting(1))
	consumer.send(11, waiting(0))
	r.wait("both to wait", func() bool { return r.parked() == 2 })
	producer.produceAcks(1, "t", 0, "b")
	if p := receive(follower, 11, kmsg.NewPtrFetchResponse()).Topics[0].Partitions[0]; !slices.Equal(valuesOf(t, p.RecordBatches), []string{"b"}) {
		t.Fatalf("a follower that waited was given %v", valuesOf(t, p.RecordBatches))
	}
	r.replica("t", 0).Vouch(second, 1, 2)
	if p := receive(consumer, 11, kmsg.NewPtrFetchResponse()).Topics[0].Partitions[0]; !slices.Equal(valuesOf(t, p.RecordBatches), []string{"a", "b"}) || p.HighWatermark != 2 {
		t.Fatalf("a consumer that waited was given %v, high watermark %d", valuesOf(t, p.RecordBatches), p.HighWatermark)
	}
}

// parked is how many connections have a request that waits.
func (r *rig) parked() (n int) {
	r.Server.mu.Lock()
	defer r.Server.mu.Unlock()
	for c := range r.Server.conns {
		c.mu.Lock()
		if c.onClose != nil {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// produceAcks sends one batch, and fails on an error.
func (c *client) produceAcks(acks int16, topic string, p int32, values ...string) {
	c.t.Helper()
	if resp := c.tryProduce(9, produceRequest(topic, p, acks, batchOf(nil, values...))); resp.ErrorCode != 0 {
		c.t.Fatalf("produce with acks=%d: error %d", acks, resp.ErrorCode)
	}
}

// A follower that is not in sync is given no more than leader.replication.throttled.rate of a throttled replica, also while it
// waits; one in sync is given everything.
func TestThrottledLeader(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1, "leader.replication.throttled.replicas", fmt.Sprintf("7:1,0:%d", rigBroker))
	r.apply(catalog.Batch{Changes: []catalog.Change{{
		Kind: catalog.Created, Path: catalog.DefaultBrokerConfigPath(), Data: catalog.EncodeConfig(map[string]string{"leader.replication.throttled.rate": "2000"}),
	}}})
	producer, follower := r.dial(), r.dialBox(2)
	value := strings.Repeat("x", 900)
	for range 6 {
		producer.produceAcks(1, "t", 0, value)
	}
	copyAll := func() (took time.Duration, empty int) {
		began := time.Now()
		for offset := int64(0); offset < 6; {
			p := follower.fetch(11, waiting(offset)).Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 6 {
				t.Fatalf("error %d, high watermark %d", p.ErrorCode, p.HighWatermark)
			}
			n := len(valuesOf(t, p.RecordBatches))
			if n == 0 {
				empty++
			}
			offset += int64(n)
		}
		return time.Since(began), empty
	}
	if took, empty := copyAll(); took < 1200*time.Millisecond || took > 10*time.Second || empty > 0 { // 5.4 kB, of which one second's are free
		t.Errorf("not in sync: %v, %d empty answers", took, empty)
	}
	if p := follower.fetch(11, following(0)).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) > 0 || p.HighWatermark != 6 {
		t.Errorf("overdrawn: error %d, %d bytes, high watermark %d", p.ErrorCode, len(p.RecordBatches), p.HighWatermark)
	}
	r.apply(catalog.Batch{Changes: []catalog.Change{{Kind: catalog.Changed, Path: catalog.StatePath("t", 0), Data: catalog.EncodeState(catalog.PartitionState{
		Leader: rigBroker, LeaderEpoch: 1, LeaderBrokerEpoch: rigEpoch, ISR: []int32{rigBroker, 2},
	})}}})
	if took, _ := copyAll(); took > 1200*time.Millisecond {
		t.Errorf("in sync: %v", took)
	}
}
