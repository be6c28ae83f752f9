package kafkaserver

import (
	"strings"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is named again is told once: no small frame makes an answer larger than what there is to tell.

func TestMetadataOfATopicNamedTwice(t *testing.T) {
	r := newRig(t)
	id := r.topic("t", 3)
	c := r.dial()
	for version := int16(0); version <= 13; version++ {
		if topics := ask(c, version, metadataRequest("t", "u", "t", "u", "t"), kmsg.NewPtrMetadataResponse()).Topics; len(topics) != 2 || *topics[0].Topic != "t" || *topics[1].Topic != "u" {
			t.Errorf("v%d: %+v", version, topics)
		}
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, x := range [][16]byte{id, {9}, id, {9}} {
		topic := kmsg.NewMetadataRequestTopic()
		topic.TopicID = x
		req.Topics = append(req.Topics, topic)
	}
	if topics := ask(c, 12, req, kmsg.NewPtrMetadataResponse()).Topics; len(topics) != 2 || topics[1].ErrorCode != codeUnknownTopicID {
		t.Errorf("by id: %+v", topics)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.created) != 4 { // once a version, up to the last that need not ask for it
		t.Errorf("%d topics were created of one name: %v", len(r.created), r.created)
	}
}

func TestDescribeConfigsNamedTwice(t *testing.T) {
	_, c := adminRig(t)
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, x := range []struct {
		kind kmsg.ConfigResourceType
		name string
	}{{2, "t"}, {4, "1"}, {2, "t"}, {4, "1"}, {4, "01"}, {4, "+1"}, {2, "u"}} {
		res := kmsg.NewDescribeConfigsRequestResource()
		res.ResourceType, res.ResourceName = x.kind, x.name
		req.Resources = append(req.Resources, res)
	}
	resp := ask(c, 4, req, kmsg.NewPtrDescribeConfigsResponse())
	if len(resp.Resources) != 5 {
		t.Fatalf("%d resources", len(resp.Resources))
	}
	for i, code := range []int16{0, 0, codeInvalidRequest, codeInvalidRequest, codeUnknownTopicOrPartition} {
		if got := resp.Resources[i]; got.ErrorCode != code || (len(got.Configs) > 0) != (code == 0) {
			t.Errorf("%s: code %d, %d settings", got.ResourceName, got.ErrorCode, len(got.Configs))
		}
	}
}

func TestGroupsNamedTwice(t *testing.T) {
	g := newGroupRig(t)
	g.lead()
	g.topic("t", 2)
	c := g.dial()
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "g", -1
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "t"
	part := kmsg.NewOffsetCommitRequestTopicPartition()
	part.Offset = 7
	topic.Partitions = append(topic.Partitions, part)
	commit.Topics = append(commit.Topics, topic)
	if got := ask(c, 8, commit, kmsg.NewPtrOffsetCommitResponse()).Topics[0].Partitions[0].ErrorCode; got != 0 {
		t.Fatal(got)
	}

	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g", "h", "g", "g"}
	if got := ask(c, 5, describe, kmsg.NewPtrDescribeGroupsResponse()).Groups; len(got) != 2 || got[0].Group != "g" || got[1].Group != "h" {
		t.Errorf("described: %+v", got)
	}

	one := kmsg.NewPtrOffsetFetchRequest()
	one.Group = "g"
	one.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1, 0, 0}}, {Topic: "t", Partitions: []int32{0}}}
	if got := ask(c, 7, one, kmsg.NewPtrOffsetFetchResponse()).Topics; len(got) != 1 || len(got[0].Partitions) != 2 || got[0].Partitions[0].Offset != 7 {
		t.Errorf("fetched of one group: %+v", got)
	}

	id := g.catalog.Current().Topic("t").ID
	for version := int16(8); version <= 10; version++ {
		several := kmsg.NewPtrOffsetFetchRequest()
		all := kmsg.NewOffsetFetchRequestGroup()
		all.Group = "g"
		some := kmsg.NewOffsetFetchRequestGroup()
		some.Group = "h"
		some.Topics = []kmsg.OffsetFetchRequestGroupTopic{
			{Topic: "t", TopicID: id, Partitions: []int32{0, 1, 0, 0}}, {Topic: "t", TopicID: id, Partitions: []int32{0}},
			{Topic: "u", TopicID: [16]byte{9}, Partitions: []int32{3, 3}},
		}
		several.Groups = append(several.Groups, all, some, all, all)
		got := ask(c, version, several, kmsg.NewPtrOffsetFetchResponse()).Groups
		if len(got) != 2 || len(got[0].Topics) != 1 || len(got[1].Topics) != 2 || len(got[1].Topics[0].Partitions) != 2 || len(got[1].Topics[1].Partitions) != 1 {
			t.Errorf("v%d: fetched of several groups: %+v", version, got)
		}
	}
}

// Leaders are asked about a partition once: naming it again is INVALID_REQUEST, as in Kafka's ListOffsets.
func TestPartitionsNamedTwice(t *testing.T) {
	r := newRig(t)
	r.topic("t", 2)
	c := r.dial()
	c.tryProduce(9, produceRequest("t", 0, -1, batchOf(func(o *batch.Options) { o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 2, 0 }, "a", "b")))

	offsets := kmsg.NewPtrListOffsetsRequest()
	for range 2 {
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = "t"
		for _, p := range []int32{0, 0} {
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Partition, part.Timestamp = p, -1
			topic.Partitions = append(topic.Partitions, part)
		}
		offsets.Topics = append(offsets.Topics, topic)
	}
	alone := kmsg.NewListOffsetsRequestTopicPartition()
	alone.Partition, alone.Timestamp = 1, -1
	offsets.Topics[1].Partitions = append(offsets.Topics[1].Partitions, alone)
	got := ask(c, 7, offsets, kmsg.NewPtrListOffsetsResponse()).Topics
	for _, p := range append(got[0].Partitions, got[1].Partitions[:2]...) {
		if p.ErrorCode != codeInvalidRequest || p.Offset != -1 {
			t.Errorf("ListOffsets: %+v", p)
		}
	}
	if p := got[1].Partitions[2]; p.ErrorCode != 0 || p.Offset != 0 {
		t.Errorf("ListOffsets: %+v", p)
	}

	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = append(producers.Topics, kmsg.DescribeProducersRequestTopic{Topic: "t", Partitions: []int32{0, 1, 0}})
	for i, p := range ask(c, 0, producers, kmsg.NewPtrDescribeProducersResponse()).Topics[0].Partitions {
		if want := []int16{codeInvalidRequest, 0, codeInvalidRequest}[i]; p.ErrorCode != want || len(p.ActiveProducers) != 0 {
			t.Errorf("DescribeProducers: %+v", p)
		}
	}

	remove := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = "t"
	topic.Partitions = []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 1}, {Partition: 0, Offset: 2}, {Partition: 1, Offset: 0}}
	remove.Topics = append(remove.Topics, topic)
	for i, p := range ask(c, 2, remove, kmsg.NewPtrDeleteRecordsResponse()).Topics[0].Partitions {
		if want := []int16{codeInvalidRequest, codeInvalidRequest, 0}[i]; p.ErrorCode != want {
			t.Errorf("DeleteRecords: %+v", p)
		}
	}
}

func TestScramUsersNamedTwice(t *testing.T) {
	_, c := adminRig(t)
	req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	for _, name := range []string{"a", "b", "a"} {
		user := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
		user.Name = name
		req.Users = append(req.Users, user)
	}
	got := ask(c, 0, req, kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()).Results
	if len(got) != 2 || got[0].ErrorCode != codeDuplicateResource || got[1].ErrorCode != codeResourceNotFound {
		t.Errorf("%+v", got)
	}
}

// counting draws 1, 2, 3 and so on.
func counting() func() int32 {
	id := int32(0)
	return func() int32 { id++; return id }
}

// A session remembers a topic's name once, and no name that is no topic's: its partitions are counted, their names are not.
func TestSessionNamesAreShort(t *testing.T) {
	f := newFetchSessions(limits.Kafka{FetchSessionsMax: 2, FetchSessionPartitionsMax: 5000}, counting())
	long := fetchRequest(strings.Repeat("x", topicNameMax+1), 0, 0, 1)
	long.Version = 12
	if f.begin(0, long) != nil {
		t.Error("a session of a name that cannot be a topic's")
	}
	name := strings.Repeat("x", topicNameMax)
	var many []int32
	for p := range int32(1000) {
		many = append(many, p)
	}
	req := fetchRequest(name, 0, many...)
	req.Version = 12
	s := f.begin(0, req)
	if s == nil {
		t.Fatal("no session")
	}
	long.SessionID, long.SessionEpoch = s.id, s.epoch
	if s, code := f.next(0, long); s != nil || code != codeFetchSessionIDNotFound {
		t.Errorf("a session took up a name that cannot be a topic's: code %d", code)
	}
	perName := testing.AllocsPerRun(1, func() {
		f := newFetchSessions(limits.Kafka{FetchSessionsMax: 2, FetchSessionPartitionsMax: 5000}, counting())
		f.begin(0, req)
	})
	if perName > 2.5*1000 { // a list element and a partition each; the map's tables besides
		t.Errorf("%v allocations for %d partitions of one name", perName, len(many))
	}
}
