package kafkaserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/coordinator"
	"cairn/engine/broker/group"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupRig is a rig with a real coordinator on real replicas of __consumer_offsets.
type groupRig struct {
	*rig
	coordinator *coordinator.Coordinator
	settings    atomic.Pointer[group.Settings]
	partitions  atomic.Int32
}

func newGroupRig(t testing.TB) *groupRig {
	g := &groupRig{}
	settings := group.DefaultSettings()
	settings.InitialDelay, settings.SessionMin = 0, 100*time.Millisecond
	g.settings.Store(&settings)
	var ids atomic.Int64
	g.coordinator = coordinator.New(coordinator.Config{Limits: limits.Derive(1 << 30).Group}, coordinator.Deps{
		Runtime:    mailbox.NewThreads(clock.System()),
		Settings:   func() group.Settings { return *g.settings.Load() },
		Partitions: g.partitions.Load,
		Unique:     func() string { return fmt.Sprint("unique-", ids.Add(1)) },
	})
	t.Cleanup(g.coordinator.Close)
	g.rig = newRig(t, func(c *rigConfig) { c.deps.Groups = g.coordinator })
	return g
}

const offsetPartitions = 4

// lead makes __consumer_offsets and has the coordinator lead it.
func (g *groupRig) lead() {
	g.topic(catalog.GroupOffsetsTopic, offsetPartitions, "cleanup.policy", "compact")
	g.partitions.Store(offsetPartitions)
	for p := range int32(offsetPartitions) {
		g.coordinator.Lead(p, coordinator.ReplicaLog(g.replica(catalog.GroupOffsetsTopic, p)), 1)
	}
	g.wait("the groups to be loaded", func() bool {
		loaded := make(chan bool, 1)
		g.coordinator.List(context.Background(), nil, func(_ []group.Listed, err *kerr.Error) { loaded <- err == nil })
		return <-loaded
	})
}

func TestFindCoordinator(t *testing.T) {
	g := newGroupRig(t)
	c := g.dial()
	for version := int16(0); version <= 6; version++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
		resp := ask(c, version, req, kmsg.NewPtrFindCoordinatorResponse())
		if version < 4 && resp.ErrorCode != codeCoordinatorNotAvailable || version >= 4 && resp.Coordinators[1].ErrorCode != codeCoordinatorNotAvailable {
			t.Fatalf("version %d before there is a topic: %+v", version, resp)
		}
	}
	g.mu.Lock()
	if len(g.created) == 0 || g.created[0] != catalog.GroupOffsetsTopic {
		t.Errorf("asked to be created: %v", g.created)
	}
	g.mu.Unlock()
	g.lead()
	for version := int16(0); version <= 6; version++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
		resp := ask(c, version, req, kmsg.NewPtrFindCoordinatorResponse())
		host, port, _ := strings.Cut(g.address, ":")
		if version < 4 && (resp.ErrorCode != 0 || resp.NodeID != rigBroker || resp.Host != host || fmt.Sprint(resp.Port) != port) {
			t.Fatalf("version %d: %+v", version, resp)
		}
		if version >= 4 && (len(resp.Coordinators) != 2 || resp.Coordinators[1].Key != "h" || resp.Coordinators[1].NodeID != rigBroker || resp.Coordinators[1].ErrorCode != 0) {
			t.Fatalf("version %d: %+v", version, resp)
		}
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKeys, req.CoordinatorType = []string{"t"}, transactionCoordinator
	resp := ask(c, 4, req, kmsg.NewPtrFindCoordinatorResponse())
	if got := resp.Coordinators[0]; got.ErrorCode != codeCoordinatorNotAvailable || got.ErrorMessage == nil || got.NodeID != -1 {
		t.Errorf("transactions: %+v", got)
	}
	req.CoordinatorType = 9
	if got := ask(c, 6, req, kmsg.NewPtrFindCoordinatorResponse()).Coordinators[0]; got.ErrorCode != codeInvalidRequest {
		t.Errorf("type 9: %+v", got)
	}
}

// TestGroupAPIsAtEveryVersion takes one member through a group with each version of each API.
func TestGroupAPIsAtEveryVersion(t *testing.T) {
	g := newGroupRig(t)
	g.lead()
	id := g.topic("t", 1)
	c := g.dial()
	for version := int16(0); version <= 10; version++ {
		name := fmt.Sprint("g", version)
		member, generation := joinAt(t, c, name, min(version, 9))
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = name, member, generation
		sync.ProtocolType, sync.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: member, MemberAssignment: []byte("all")}}
		if s := ask(c, min(version, 5), sync, kmsg.NewPtrSyncGroupResponse()); s.ErrorCode != 0 || string(s.MemberAssignment) != "all" {
			t.Fatalf("sync version %d: %+v", version, s)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID, beat.Generation = name, member, generation
		if h := ask(c, min(version, 4), beat, kmsg.NewPtrHeartbeatResponse()); h.ErrorCode != 0 {
			t.Fatalf("heartbeat version %d: %+v", version, h)
		}
		commitAndFetch(t, c, name, member, generation, version, id)
		describeListDelete(t, c, name, member, version)
	}
}

// joinAt joins a group of its own, with as many requests as the version takes.
func joinAt(t *testing.T, c *client, name string, version int16) (member string, generation int32) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = name, 10000, 20000, "consumer"
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{"t"}
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: meta.AppendTo(nil)}}
	resp := ask(c, version, req, kmsg.NewPtrJoinGroupResponse())
	if (version >= 4) != (resp.ErrorCode == codeMemberIDRequired) {
		t.Fatalf("join version %d: %+v", version, resp)
	}
	if version >= 4 {
		if !strings.HasPrefix(resp.MemberID, "rig-") {
			t.Fatalf("member id %q does not begin with the client's", resp.MemberID)
		}
		req.MemberID = resp.MemberID
		resp = ask(c, version, req, kmsg.NewPtrJoinGroupResponse())
	}
	if resp.ErrorCode != 0 || resp.LeaderID != resp.MemberID || len(resp.Members) != 1 || resp.Generation != 1 || *resp.Protocol != "range" {
		t.Fatalf("join version %d: %+v", version, resp)
	}
	return resp.MemberID, resp.Generation
}

func commitAndFetch(t *testing.T, c *client, name, member string, generation int32, version int16, id catalog.UUID) {
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.Generation = name, member, generation
	for _, topic := range []string{"t", "missing"} {
		ct := kmsg.NewOffsetCommitRequestTopic()
		ct.Topic = topic
		if topic == "t" {
			ct.TopicID = id
		} else {
			ct.TopicID = [16]byte{9}
		}
		for _, p := range []int32{0, 7} {
			cp := kmsg.NewOffsetCommitRequestTopicPartition()
			cp.Partition, cp.Offset, cp.LeaderEpoch, cp.Metadata = p, 42, 3, kmsg.StringPtr("note")
			ct.Partitions = append(ct.Partitions, cp)
		}
		commit.Topics = append(commit.Topics, ct)
	}
	cv := max(version, 2)
	cr := ask(c, cv, commit, kmsg.NewPtrOffsetCommitResponse())
	missing := codeUnknownTopicOrPartition
	if cv >= 10 {
		missing = codeUnknownTopicID
	}
	for i, want := range [][]int16{{0, codeUnknownTopicOrPartition}, {missing, missing}} {
		got := []int16{cr.Topics[i].Partitions[0].ErrorCode, cr.Topics[i].Partitions[1].ErrorCode}
		if !slices.Equal(got, want) {
			t.Fatalf("commit version %d, topic %d: codes %v, want %v", cv, i, got, want)
		}
	}
	fv := max(version, 1)
	epoch := int32(-1)
	if cv >= 6 {
		epoch = 3
	}
	for _, all := range []bool{false, true} {
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Group = name
		fg := kmsg.NewOffsetFetchRequestGroup()
		fg.Group = name
		if !all || fv < 2 {
			fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
			fg.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: id, Partitions: []int32{0, 1}}}
		}
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{fg}
		fr := ask(c, fv, fetch, kmsg.NewPtrOffsetFetchResponse())
		var offsets []int64
		if fv >= 8 {
			if fr.Groups[0].Group != name || fr.Groups[0].ErrorCode != 0 || len(fr.Groups[0].Topics) != 1 || fv >= 10 && fr.Groups[0].Topics[0].TopicID != id {
				t.Fatalf("fetch version %d: %+v", fv, fr)
			}
			for _, p := range fr.Groups[0].Topics[0].Partitions {
				offsets = append(offsets, p.Offset)
			}
			if p := fr.Groups[0].Topics[0].Partitions[0]; p.LeaderEpoch != epoch || *p.Metadata != "note" {
				t.Fatalf("fetch version %d: %+v", fv, p)
			}
		} else {
			if fr.ErrorCode != 0 || len(fr.Topics) != 1 {
				t.Fatalf("fetch version %d: %+v", fv, fr)
			}
			for _, p := range fr.Topics[0].Partitions {
				offsets = append(offsets, p.Offset)
			}
		}
		want := []int64{42, -1}
		if all && fv >= 2 {
			want = want[:1]
		}
		if !slices.Equal(offsets, want) {
			t.Fatalf("fetch version %d all=%v: %v", fv, all, offsets)
		}
	}
}

func describeListDelete(t *testing.T, c *client, name, member string, version int16) {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups, describe.IncludeAuthorizedOperations = []string{name, "nobody"}, version%2 == 0
	dv := min(version, 6)
	d := ask(c, dv, describe, kmsg.NewPtrDescribeGroupsResponse())
	if got := d.Groups[0]; got.State != "Stable" || got.Protocol != "range" || len(got.Members) != 1 || got.Members[0].MemberID != member ||
		got.Members[0].ClientID != "rig" || got.Members[0].ClientHost != "/127.0.0.1" || string(got.Members[0].MemberAssignment) != "all" {
		t.Fatalf("describe version %d: %+v", dv, got)
	}
	if got := d.Groups[1]; got.State != "Dead" || (dv >= 6) != (got.ErrorCode == codeGroupIDNotFound) {
		t.Fatalf("describe version %d: %+v", dv, got)
	}
	list := kmsg.NewPtrListGroupsRequest()
	lv := min(version, 5)
	list.StatesFilter, list.TypesFilter = []string{"stable"}, []string{"Classic"}
	l := ask(c, lv, list, kmsg.NewPtrListGroupsResponse())
	if !slices.ContainsFunc(l.Groups, func(g kmsg.ListGroupsResponseGroup) bool {
		return g.Group == name && g.ProtocolType == "consumer" && (lv < 4 || g.GroupState == "Stable") && (lv < 5 || g.GroupType == "classic")
	}) {
		t.Fatalf("list version %d: %+v", lv, l)
	}
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{name, "nobody", name}
	ev := min(version, 3)
	if r := ask(c, ev, del, kmsg.NewPtrDeleteGroupsResponse()); len(r.Groups) != 2 || r.Groups[0].ErrorCode != codeNonEmptyGroup || r.Groups[1].ErrorCode != codeGroupIDNotFound {
		t.Fatalf("delete version %d: %+v", ev, r)
	}
	offsets := kmsg.NewPtrOffsetDeleteRequest()
	offsets.Group = name
	offsets.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 9}}}}
	if r := ask(c, 0, offsets, kmsg.NewPtrOffsetDeleteResponse()); r.ErrorCode != 0 || r.Topics[0].Partitions[0].ErrorCode != codeGroupSubscribedToTopic || r.Topics[0].Partitions[1].ErrorCode != codeUnknownTopicOrPartition {
		t.Fatalf("offset delete: %+v", r)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = name, member
	leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: member}, {MemberID: "other"}}
	vv := min(version, 5)
	v := ask(c, vv, leave, kmsg.NewPtrLeaveGroupResponse())
	if v.ErrorCode != 0 || vv >= 3 && (v.Members[0].ErrorCode != 0 || v.Members[1].ErrorCode != codeUnknownMemberID) {
		t.Fatalf("leave version %d: %+v", vv, v)
	}
	if r := ask(c, ev, del, kmsg.NewPtrDeleteGroupsResponse()); r.Groups[0].ErrorCode != 0 {
		t.Fatalf("delete of an empty group, version %d: %+v", ev, r)
	}
}

func TestGroupErrorsAtTheEdge(t *testing.T) {
	g := newGroupRig(t)
	c := g.dial()
	// No __consumer_offsets: nobody coordinates.
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	if r := ask(c, 1, fetch, kmsg.NewPtrOffsetFetchResponse()); r.Topics[0].Partitions[0].ErrorCode != codeNotCoordinator {
		t.Errorf("fetch version 1: %+v", r)
	}
	if r := ask(c, 5, fetch, kmsg.NewPtrOffsetFetchResponse()); r.ErrorCode != codeNotCoordinator {
		t.Errorf("fetch version 5: %+v", r)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = "g"
	if r := ask(c, 1, leave, kmsg.NewPtrLeaveGroupResponse()); r.ErrorCode != codeNotCoordinator {
		t.Errorf("leave: %+v", r)
	}
	g.lead()
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group = "g"
	if r := ask(c, 5, sync, kmsg.NewPtrSyncGroupResponse()); r.ErrorCode != codeInconsistentGroupProtocol {
		t.Errorf("sync without a protocol: %+v", r)
	}
	many := kmsg.NewPtrDescribeGroupsRequest()
	many.Groups = make([]string, groupsPerRequestMax+1)
	c.send(5, many)
	if !c.closedByServer() {
		t.Error("a request for more groups than may be named was answered")
	}
}

// A client that hangs up while its join waits holds nothing.
func TestHangUpWhileJoining(t *testing.T) {
	g := newGroupRig(t)
	g.lead()
	first := g.dial()
	joinAt(t, first, "g", 3)
	second := g.dial()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 10000, 60000, "consumer"
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	second.send(3, req)
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g"}
	g.wait("the second member", func() bool {
		return len(ask(first, 5, describe, kmsg.NewPtrDescribeGroupsResponse()).Groups[0].Members) == 2
	})
	_ = second.conn.Close()
	g.wait("the memory of its request", func() bool { used, _ := g.budget.load(); return used == 0 })
}

// consume runs a consumer of the group until stop, handing every record over.
func consume(t *testing.T, g *groupRig, stop context.Context, got func(*kgo.Record), options ...kgo.Opt) *kgo.Client {
	options = append([]kgo.Opt{
		kgo.SeedBrokers(g.address), kgo.ConsumerGroup("consumers"), kgo.ConsumeTopics("t"), kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(50 * time.Millisecond),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100 * time.Millisecond), kgo.BlockRebalanceOnPoll(),
	}, options...)
	cl, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for stop.Err() == nil {
			fetches := cl.PollFetches(stop)
			fetches.EachRecord(func(r *kgo.Record) {
				got(r)
				cl.MarkCommitRecords(r)
			})
			cl.AllowRebalance()
		}
	}()
	return cl
}

// TestFranzGoGroup: real consumers, eager, cooperative and static, come and go while records are produced; every record
// arrives, what was committed stays committed, and kadm sees the group.
func TestFranzGoGroup(t *testing.T) {
	for name, options := range map[string][]kgo.Opt{
		"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"eager":       {kgo.Balancers(kgo.RangeBalancer())},
	} {
		t.Run(name, func(t *testing.T) { testFranzGoGroup(t, options) })
	}
}

func testFranzGoGroup(t *testing.T, options []kgo.Opt) {
	g := newGroupRig(t)
	g.lead()
	g.topic("t", 6)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	producer, err := kgo.NewClient(kgo.SeedBrokers(g.address), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	var mu sync.Mutex
	seen := map[string]int{}
	by := map[string]int{}
	taker := func(who string) func(*kgo.Record) {
		return func(r *kgo.Record) {
			mu.Lock()
			defer mu.Unlock()
			seen[string(r.Value)]++
			by[who]++
		}
	}
	const each = 300
	sent := 0
	produce := func() {
		for range each {
			producer.Produce(ctx, kgo.StringRecord(fmt.Sprint(sent)), nil)
			sent++
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	all := func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == sent }
	produce()
	stopA, endA := context.WithCancel(ctx)
	a := consume(t, g, stopA, taker("a"), options...)
	wait(t, "the first records", all)
	stopB, endB := context.WithCancel(ctx)
	b := consume(t, g, stopB, taker("b"), append(slices.Clone(options), kgo.InstanceID("static-b"))...)
	wait(t, "the second consumer's share", func() bool {
		produce()
		mu.Lock()
		defer mu.Unlock()
		return by["b"] > 0
	})
	wait(t, "records of two consumers", all)

	adm := kadm.NewClient(producer)
	described, err := adm.DescribeGroups(ctx, "consumers")
	if err != nil {
		t.Fatal(err)
	}
	d := described["consumers"]
	if d.State != "Stable" || len(d.Members) != 2 || d.AssignedPartitions().Lookup("t", 5) == false {
		t.Fatalf("described: %+v", d)
	}
	endB()
	b.CloseAllowingRebalance() // a static member does not leave
	if resp, err := adm.LeaveGroup(ctx, kadm.LeaveGroup("consumers").InstanceIDs("static-b").Reason("test")); err != nil || !resp.Ok() {
		t.Fatalf("leave by instance id: %v %v", resp, err)
	}
	produce()
	wait(t, "records after the second consumer left", all)
	if err := a.CommitMarkedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	endA()
	a.CloseAllowingRebalance()
	wait(t, "the empty group", func() bool {
		described, err := adm.DescribeGroups(ctx, "consumers")
		return err == nil && described["consumers"].State == "Empty"
	})
	checkCommitted(t, ctx, adm, sent)

	// The coordinator is loaded again from the log, and everything is there.
	for p := range int32(offsetPartitions) {
		g.coordinator.Resign(p)
		g.coordinator.Lead(p, coordinator.ReplicaLog(g.replica(catalog.GroupOffsetsTopic, p)), 1)
	}
	checkCommitted(t, ctx, adm, sent)
	lags, err := adm.Lag(ctx, "consumers")
	if err != nil || lags["consumers"].Lag.Total() != 0 {
		t.Fatalf("lag %v: %v", lags["consumers"].Lag.Total(), err)
	}
	if _, err := adm.DeleteGroup(ctx, "consumers"); err != nil {
		t.Fatal(err)
	}
	listed, err := adm.ListGroups(ctx)
	if err != nil || len(listed) != 0 {
		t.Fatalf("groups after deletion: %v %v", listed, err)
	}
}

// checkCommitted sums the committed offsets: as many as there were records.
func checkCommitted(t *testing.T, ctx context.Context, adm *kadm.Client, want int) {
	t.Helper()
	offsets, err := adm.FetchOffsets(ctx, "consumers")
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != int64(want) {
		t.Fatalf("committed offsets add up to %d of %d records", sum, want)
	}
}
