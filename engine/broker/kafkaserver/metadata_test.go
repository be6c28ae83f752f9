package kafkaserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataRequest(names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, n := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(n)
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func (c *client) metadata(version int16, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	c.t.Helper()
	return ask(c, version, req, kmsg.NewPtrMetadataResponse())
}

func topicsOf(resp *kmsg.MetadataResponse) string {
	var out []string
	for _, t := range resp.Topics {
		name := "null"
		if t.Topic != nil {
			name = *t.Topic
		}
		out = append(out, fmt.Sprintf("%s/%d/%d", name, t.ErrorCode, len(t.Partitions)))
	}
	return strings.Join(out, " ")
}

// Behaviours 9, 10, 11 and 13.
func TestBehaviour09To13Metadata(t *testing.T) {
	r := newRig(t, withSettings(func(s *Settings) { s.AutoCreateTopics = false }))
	id := r.topic("b", 2)
	r.topic("a", 1)
	r.topic("__consumer_offsets", 1)
	r.declare("leaderless", 1, 9) // a broker that is not registered
	c := r.dial()
	const all = "__consumer_offsets/0/1 a/0/1 b/0/2 leaderless/0/1"
	for version := int16(0); version <= 13; version++ {
		null := kmsg.NewPtrMetadataRequest()
		if version > 0 {
			if got := topicsOf(c.metadata(version, null)); got != all {
				t.Errorf("v%d: null: %s", version, got)
			}
		}
		want := ""
		if version == 0 {
			want = all
		}
		if got := topicsOf(c.metadata(version, metadataRequest())); got != want {
			t.Errorf("v%d: empty list: %s", version, got)
		}
		resp := c.metadata(version, metadataRequest("a", "nowhere", "bad name"))
		if got := topicsOf(resp); got != "a/0/1 nowhere/3/0 bad name/17/0" {
			t.Errorf("v%d: %s", version, got)
		}
		if resp.Brokers[0].NodeID != rigBroker || version >= 1 && (resp.ControllerID != rigBroker || *resp.Brokers[0].Rack != "shelf") ||
			version >= 2 && *resp.ClusterID != "rig-cluster" {
			t.Errorf("v%d: %+v", version, resp)
		}
		if version >= 8 && resp.Topics[0].AuthorizedOperations != -2147483648 {
			t.Errorf("v%d: operations %d without being asked", version, resp.Topics[0].AuthorizedOperations)
		}
		p := c.metadata(version, metadataRequest("leaderless")).Topics[0].Partitions[0]
		if p.ErrorCode != 5 || p.Leader != -1 || len(p.Replicas) != 1 {
			t.Errorf("v%d: without leader: %+v", version, p)
		}
	}
	asked := metadataRequest("a", "__consumer_offsets")
	asked.IncludeTopicAuthorizedOperations, asked.IncludeClusterAuthorizedOperations = true, true
	if resp := c.metadata(8, asked); resp.Topics[0].AuthorizedOperations != 3576 || resp.AuthorizedOperations != 8096 || resp.Topics[0].IsInternal || !resp.Topics[1].IsInternal {
		t.Errorf("%+v", resp)
	}
	byID := metadataRequest()
	known, unknown, neither := kmsg.NewMetadataRequestTopic(), kmsg.NewMetadataRequestTopic(), kmsg.NewMetadataRequestTopic()
	known.TopicID, unknown.TopicID = id, [16]byte{7}
	byID.Topics = append(byID.Topics, known, unknown, neither)
	resp := c.metadata(12, byID)
	if got := topicsOf(resp); got != "b/0/2 null/100/0 null/42/0" || resp.Topics[1].TopicID != unknown.TopicID {
		t.Errorf("by id: %s", got)
	}
	if got := topicsOf(c.metadata(10, byID)); got != "/42/0 /42/0 /42/0" {
		t.Errorf("by id before version 12: %s", got)
	}
	// Behaviour 13: created anew, it has another id.
	again := r.declare("b", 2, rigBroker)
	if got := c.metadata(12, metadataRequest("b")).Topics[0].TopicID; got != [16]byte(again) || again == id {
		t.Errorf("id %v", got)
	}
	// A topic that is being deleted is not there.
	r.apply(catalog.Batch{Changes: []catalog.Change{{Kind: catalog.Created, Path: catalog.DeleteTopicPath("a"), Data: catalog.EncodeDeletion(r.catalog.Current().Topic("a").ID)}}})
	if got := topicsOf(c.metadata(12, metadataRequest("a"))); got != "a/3/0" {
		t.Errorf("being deleted: %s", got)
	}
}

// Behaviour 12: auto-creation takes the broker's setting and the request's word.
func TestBehaviour12AutoCreate(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	old := metadataRequest("one")
	c.metadata(3, old) // no word in the request
	yes, no := metadataRequest("two"), metadataRequest("three")
	yes.AllowAutoTopicCreation = true
	if got := topicsOf(c.metadata(4, yes)); got != "two/3/0" {
		t.Errorf("being created: %s", got)
	}
	c.metadata(4, no)
	bad := metadataRequest("no good")
	bad.AllowAutoTopicCreation = true
	c.metadata(4, bad)
	r.mu.Lock()
	got := slices.Clone(r.created)
	r.refuse = kerr.InvalidTopicException
	r.mu.Unlock()
	if !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("created %v", got)
	}
	if got := topicsOf(c.metadata(4, yes)); got != "two/17/0" {
		t.Errorf("refused: %s", got)
	}
	// Fetch and ListOffsets never create.
	c.fetch(12, fetchRequest("four", 0, 0))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.created) != 3 {
		t.Errorf("created %v", r.created)
	}
}

// Behaviour 10 and 8: other brokers are shown under the client's listener, those without it not at all.
func TestNodesByListener(t *testing.T) {
	r := newRig(t, withListener(ListenerConfig{Name: "LAN", Address: "127.0.0.1:0"}))
	r.broker(2, "no.lan.example", 9092)
	b := &catalog.Broker{ID: 3, Incarnation: catalog.UUID{3}, Endpoints: []catalog.Endpoint{{Listener: "LAN", Security: "PLAINTEXT", Host: "lan.example", Port: 9096}}}
	r.apply(catalog.Batch{Changes: []catalog.Change{{Kind: catalog.Created, Path: catalog.BrokerPath(3), Data: catalog.EncodeBroker(b), Czxid: 77}}})
	resp := r.dial().metadata(12, metadataRequest())
	got := names(resp.Brokers, func(b kmsg.MetadataResponseBroker) string { return fmt.Sprint(b.NodeID, b.Host) })
	if !slices.Equal(got, []string{"1127.0.0.1", "3lan.example"}) {
		t.Error(got)
	}
}

func TestTopicNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "A.b_c-9": true, "": false, ".": false, "..": false, "...": true, "a b": false, "ä": false, "a/b": false,
		strings.Repeat("x", 249): true, strings.Repeat("x", 250): false,
	} {
		if validTopicName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestDescribeCluster(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.IncludeClusterAuthorizedOperations = true
		resp := ask(c, version, req, kmsg.NewPtrDescribeClusterResponse())
		if resp.ClusterID != "rig-cluster" || resp.ControllerID != rigBroker || len(resp.Brokers) != 1 || resp.ClusterAuthorizedOperations != 8096 {
			t.Errorf("v%d: %+v", version, resp)
		}
	}
	for kind, code := range map[int8]int16{2: 114, 9: 115} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType = kind
		if resp := ask(c, 1, req, kmsg.NewPtrDescribeClusterResponse()); resp.ErrorCode != code {
			t.Errorf("endpoint type %d: %+v", kind, resp)
		}
	}
}

// Behaviour 17: pages, sorted, with a cursor.
func TestBehaviour17DescribeTopicPartitions(t *testing.T) {
	r := newRig(t)
	r.declare("b", 3, rigBroker)
	r.declare("a", 2, rigBroker)
	r.declare("c", 2500, rigBroker)
	c := r.dial()
	page := func(limit int32, cursor string, partition int32, topics ...string) (string, *kmsg.DescribeTopicPartitionsResponseNextCursor) {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = limit
		for _, n := range topics {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: n})
		}
		if cursor != "" {
			req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: cursor, Partition: partition}
		}
		resp := ask(c, 0, req, kmsg.NewPtrDescribeTopicPartitionsResponse())
		out := ""
		for _, topic := range resp.Topics {
			out += fmt.Sprintf("%s/%d", *topic.Topic, topic.ErrorCode)
			if n := len(topic.Partitions); n > 0 {
				out += fmt.Sprintf("[%d..%d]", topic.Partitions[0].Partition, topic.Partitions[n-1].Partition)
			}
			out += " "
		}
		return out, resp.NextCursor
	}
	if got, next := page(4, "", 0, "b", "a", "b"); got != "a/0[0..1] b/0[0..1] " || next == nil || next.Topic != "b" || next.Partition != 2 {
		t.Error(got, next)
	}
	if got, next := page(4, "b", 2, "b", "a"); got != "b/0[2..2] " || next != nil {
		t.Error(got, next)
	}
	if got, next := page(0, "", 0); got != "a/0[0..1] b/0[0..2] c/0[0..1994] " || next == nil || next.Partition != 1995 {
		t.Error(got, next)
	}
	if got, next := page(0, "c", 1995); got != "c/0[1995..2499] " || next != nil {
		t.Error(got, next)
	}
	if got, next := page(5, "", 0, "nowhere", "b"); got != "b/0[0..2] nowhere/3 " || next != nil {
		t.Error(got, next)
	}
	if got, next := page(5, "", 0, "a", "b", "nowhere"); got != "a/0[0..1] b/0[0..2] " || next == nil || next.Topic != "nowhere" {
		t.Error(got, next)
	}
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: "a"})
	req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "z"}
	c.send(0, req)
	if !c.closedByServer() {
		t.Error("a cursor outside of what was asked")
	}
}
