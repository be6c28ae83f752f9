package kafkaserver

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
	"cairn/engine/broker/settings"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/observe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fakeController remembers what it was asked and answers what it was told to, from another goroutine.
type fakeController struct {
	mu    sync.Mutex // protects asked
	asked []any

	created    []controller.CreatedTopic
	deleted    []controller.DeletedTopic
	grown      []controller.TopicResult
	altered    []controller.ResourceResult
	elected    []controller.PartitionResult
	electErr   *controller.Error
	reassigned []controller.PartitionResult
}

func (f *fakeController) note(req any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, req)
}

func (f *fakeController) last() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[len(f.asked)-1]
}

func (f *fakeController) CreateTopics(req controller.CreateTopics, done func([]controller.CreatedTopic)) {
	f.note(req)
	go done(f.created)
}

func (f *fakeController) DeleteTopics(req controller.DeleteTopics, done func([]controller.DeletedTopic)) {
	f.note(req)
	go done(f.deleted)
}

func (f *fakeController) CreatePartitions(req controller.CreatePartitions, done func([]controller.TopicResult)) {
	f.note(req)
	go done(f.grown)
}

func (f *fakeController) AlterConfigs(req controller.AlterConfigs, done func([]controller.ResourceResult)) {
	f.note(req)
	go done(f.altered)
}

func (f *fakeController) ElectLeaders(req controller.ElectLeaders, done func([]controller.PartitionResult, *controller.Error)) {
	f.note(req)
	go done(f.elected, f.electErr)
}

func (f *fakeController) AlterReassignments(req controller.AlterReassignments, done func([]controller.PartitionResult)) {
	f.note(req)
	go done(f.reassigned)
}

// adminRig is a server with a catalog of one broker and two topics, and a fake controller; it has no replicas.
func adminRig(t *testing.T, change ...func(*Deps, *catalog.Catalog)) (*fakeController, *client) {
	t.Helper()
	static := settings.NewStatic(nil, map[string]string{"log.retention.hours": "100", "node.id": "1"})
	cat := catalog.New(catalog.Base{BrokerID: 1, Static: static}, func(p catalog.Problem) { t.Errorf("%s: %v", p.Path, p.Err) })
	put := func(path string, data []byte) catalog.Change { return catalog.Change{Path: path, Data: data, Czxid: 5} }
	cat.Apply(catalog.Batch{Zxid: 1, Reset: true, Changes: []catalog.Change{
		put(catalog.BrokerPath(1), catalog.EncodeBroker(&catalog.Broker{Incarnation: catalog.UUID{1}})),
		put(catalog.DefaultBrokerConfigPath(), catalog.EncodeConfig(map[string]string{"min.insync.replicas": "auto", "log.retention.ms": "8888", "secret.of.mine": "x"})),
		put(catalog.TopicConfigPath("t"), catalog.EncodeConfig(map[string]string{"retention.ms": "5"})),
		put(catalog.TopicPath("t"), catalog.EncodeTopic(catalog.TopicAssignment{ID: catalog.UUID{7}, Partitions: [][]int32{{1}, {1}}, Adding: map[int32][]int32{1: {2}}})),
		put(catalog.TopicPath("gone"), catalog.EncodeTopic(catalog.TopicAssignment{ID: catalog.UUID{8}, Partitions: [][]int32{{1}}})),
		put(catalog.DeleteTopicPath("gone"), nil),
	}})
	fake := &fakeController{}
	deps := Deps{Clock: clock.System(), Observer: observe.Discard(), Listen: net.Listen, Catalog: cat, Configs: cat, Controller: fake,
		Settings: func() Settings { return Settings{FetchMaxBytes: 1 << 20} }}
	for _, f := range change {
		f(&deps, cat)
	}
	s, err := New(Config{BrokerID: 1, Listeners: []ListenerConfig{{Name: "PLAINTEXT", Address: "127.0.0.1:0"}}, Limits: limits.Derive(1 << 30).Kafka}, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(t.Context()) })
	nc, err := net.Dial("tcp", s.Address("PLAINTEXT").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return fake, &client{t: t, conn: nc}
}

func text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// Behaviour 14: an error per topic, the settings, counts and id of what was created, at every version.
func TestCreateTopics(t *testing.T) {
	fake, c := adminRig(t)
	fake.created = []controller.CreatedTopic{
		{Name: "new", ID: catalog.UUID{9}, Partitions: 3, ReplicationFactor: 1, Overrides: map[string]string{"retention.ms": "77"}},
		{Name: "old", Err: &controller.Error{Kind: kerr.TopicAlreadyExists, Message: "Topic 'old' already exists."}},
	}
	for version := int16(2); version <= 7; version++ {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.ValidateOnly, req.TimeoutMillis = true, 1234
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "new", -1, -1
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("77")
		topic.Configs = append(topic.Configs, config)
		assignment := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		assignment.Partition, assignment.Replicas = 2, []int32{1, 4}
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, assignment)
		req.Topics = append(req.Topics, topic)
		resp := ask(c, version, req, kmsg.NewPtrCreateTopicsResponse())
		got := fake.last().(controller.CreateTopics)
		if !got.ValidateOnly || got.Timeout != 1234*time.Millisecond || got.Topics[0].Name != "new" || got.Topics[0].Partitions != -1 ||
			*got.Topics[0].Configs[0].Value != "77" || fmt.Sprint(got.Topics[0].Assignments) != "[{2 [1 4]}]" {
			t.Errorf("v%d: asked %+v", version, got)
		}
		if resp.Topics[0].ErrorCode != 0 || resp.Topics[1].ErrorCode != 36 || text(resp.Topics[1].ErrorMessage) != "Topic 'old' already exists." {
			t.Errorf("v%d: %+v", version, resp.Topics)
		}
		if version >= 5 {
			if resp.Topics[0].NumPartitions != 3 || resp.Topics[0].ReplicationFactor != 1 || len(resp.Topics[0].Configs) < 37 {
				t.Errorf("v%d: %+v", version, resp.Topics[0])
			}
			i := slices.IndexFunc(resp.Topics[0].Configs, func(c kmsg.CreateTopicsResponseTopicConfig) bool { return c.Name == "retention.ms" })
			if e := resp.Topics[0].Configs[i]; text(e.Value) != "77" || e.Source != 1 {
				t.Errorf("v%d: retention.ms is %+v", version, e)
			}
		}
		if version >= 7 && resp.Topics[0].TopicID != [16]byte{9} {
			t.Errorf("v%d: id %v", version, resp.Topics[0].TopicID)
		}
	}
}

func TestDeleteTopics(t *testing.T) {
	fake, c := adminRig(t)
	fake.deleted = []controller.DeletedTopic{{Name: kmsg.StringPtr("t"), Err: &controller.Error{Kind: kerr.TopicDeletionDisabled}}}
	for version := int16(1); version <= 6; version++ {
		req := kmsg.NewPtrDeleteTopicsRequest()
		if version < 6 {
			req.TopicNames = []string{"t"}
		} else {
			byID := kmsg.NewDeleteTopicsRequestTopic()
			byID.TopicID = [16]byte{7}
			req.Topics = append(req.Topics, byID)
		}
		resp := ask(c, version, req, kmsg.NewPtrDeleteTopicsResponse())
		want := codeTopicDeletionDisabled
		if version < 3 {
			want = codeInvalidRequest
		}
		if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != want {
			t.Errorf("v%d: %+v", version, resp.Topics)
		}
		ref := fake.last().(controller.DeleteTopics).Topics[0]
		if (version < 6) != (ref.Name != nil) || (version >= 6) != (ref.ID == catalog.UUID{7}) {
			t.Errorf("v%d: asked %+v", version, ref)
		}
	}
}

// Behaviour 15: every setting of a topic with its source and synonyms, sensitive values null.
func TestDescribeConfigs(t *testing.T) {
	_, c := adminRig(t)
	for version := int16(1); version <= 4; version++ {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms = true
		req.IncludeDocumentation = version >= 3
		for _, res := range []struct {
			kind int8
			name string
		}{{2, "t"}, {4, "1"}, {4, ""}, {2, "gone"}, {2, "bad/name"}, {4, "9"}, {4, "x"}, {32, "g"}, {99, "x"}} {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceType(res.kind), res.name
			if res.name == "t" && version == 4 {
				r.ConfigNames = []string{"retention.ms", "cleanup.policy"}
			}
			req.Resources = append(req.Resources, r)
		}
		resp := ask(c, version, req, kmsg.NewPtrDescribeConfigsResponse())
		var codes []string
		for _, r := range resp.Resources {
			codes = append(codes, fmt.Sprint(r.ErrorCode))
		}
		if got := strings.Join(codes, " "); got != "0 0 0 3 17 42 42 0 42" {
			t.Fatalf("v%d: errors %s", version, got)
		}
		topic := resp.Resources[0].Configs
		if (version < 4 && len(topic) < 37) || (version == 4 && len(topic) != 2) {
			t.Errorf("v%d: %d settings", version, len(topic))
		}
		e := find(t, topic, "retention.ms")
		var synonyms []string
		for _, s := range e.ConfigSynonyms {
			synonyms = append(synonyms, fmt.Sprintf("%d:%s=%s", s.Source, s.Name, text(s.Value)))
		}
		const want = "1:retention.ms=5 3:log.retention.ms=8888 4:log.retention.hours=100 5:log.retention.hours=168"
		if text(e.Value) != "5" || e.Source != 1 || strings.Join(synonyms, " ") != want || (version >= 3 && (e.ConfigType != 5 || e.Documentation == nil)) {
			t.Errorf("v%d: %+v synonyms %v", version, e, synonyms)
		}
		if e := find(t, topic, "cleanup.policy"); text(e.Value) != "delete" || e.Source != 5 {
			t.Errorf("v%d: cleanup.policy %+v", version, e)
		}
		broker := resp.Resources[1].Configs
		if find(t, broker, "inter.broker.protocol.version").Value == nil {
			t.Errorf("v%d: tools need inter.broker.protocol.version", version)
		}
		if e := find(t, broker, "ssl.keystore.password"); !e.IsSensitive || e.Value != nil {
			t.Errorf("v%d: a password is shown: %+v", version, e)
		}
		if e := find(t, broker, "min.insync.replicas"); text(e.Value) != "1" || e.ReadOnly {
			t.Errorf("v%d: auto is not shown as a number: %+v", version, e)
		}
		defaults := resp.Resources[2].Configs
		if len(defaults) != 3 || find(t, defaults, "secret.of.mine").Value != nil {
			t.Errorf("v%d: defaults %+v", version, defaults)
		}
	}
}

func find(t *testing.T, list []kmsg.DescribeConfigsResponseResourceConfig, name string) kmsg.DescribeConfigsResponseResourceConfig {
	t.Helper()
	i := slices.IndexFunc(list, func(e kmsg.DescribeConfigsResponseResourceConfig) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("%s is not described", name)
	}
	return list[i]
}

// Behaviour 16: both ways to alter settings reach the controller with their operations.
func TestAlterConfigs(t *testing.T) {
	fake, c := adminRig(t)
	fake.altered = []controller.ResourceResult{{Type: controller.TopicResource, Name: "t", Err: &controller.Error{Kind: kerr.InvalidConfig, Message: "no"}}}
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.ValidateOnly = true
		res := kmsg.NewAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = 2, "t"
		config := kmsg.NewAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("1")
		res.Configs = append(res.Configs, config)
		req.Resources = append(req.Resources, res)
		resp := ask(c, version, req, kmsg.NewPtrAlterConfigsResponse())
		got := fake.last().(controller.AlterConfigs)
		if got.Incremental || !got.ValidateOnly || got.Resources[0].Type != controller.TopicResource || got.Resources[0].Changes[0].Op != controller.SetConfig {
			t.Errorf("v%d: asked %+v", version, got)
		}
		if resp.Resources[0].ErrorCode != codeInvalidConfig || text(resp.Resources[0].ErrorMessage) != "no" || resp.Resources[0].ResourceName != "t" {
			t.Errorf("v%d: %+v", version, resp.Resources)
		}
	}
	for version := int16(0); version <= 1; version++ {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		res := kmsg.NewIncrementalAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = 4, "1"
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Op = "log.retention.ms", 1
		res.Configs = append(res.Configs, config)
		req.Resources = append(req.Resources, res)
		ask(c, version, req, kmsg.NewPtrIncrementalAlterConfigsResponse())
		got := fake.last().(controller.AlterConfigs)
		if !got.Incremental || got.Resources[0].Changes[0].Op != controller.DeleteConfig || got.Resources[0].Changes[0].Value != nil {
			t.Errorf("v%d: asked %+v", version, got)
		}
	}
}

func TestCreatePartitions(t *testing.T) {
	fake, c := adminRig(t)
	fake.grown = []controller.TopicResult{{Topic: "t", Err: &controller.Error{Kind: kerr.InvalidPartitions, Message: "Topic already has 2 partition(s)."}}}
	for version := int16(0); version <= 3; version++ {
		req := kmsg.NewPtrCreatePartitionsRequest()
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = "t", 2
		if version%2 == 1 {
			topic.Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{1}}}
		}
		req.Topics = append(req.Topics, topic)
		resp := ask(c, version, req, kmsg.NewPtrCreatePartitionsResponse())
		got := fake.last().(controller.CreatePartitions).Topics[0]
		if (version%2 == 1) != (got.Assignments != nil) || got.Count != 2 || resp.Topics[0].ErrorCode != codeInvalidPartitions {
			t.Errorf("v%d: asked %+v, answered %+v", version, got, resp.Topics)
		}
	}
}

func TestElectLeaders(t *testing.T) {
	fake, c := adminRig(t)
	fake.elected = []controller.PartitionResult{
		{TopicPartition: controller.TopicPartition{Topic: "t", Partition: 1}},
		{TopicPartition: controller.TopicPartition{Topic: "u", Partition: 0}, Err: &controller.Error{Kind: kerr.ElectionNotNeeded}},
		{TopicPartition: controller.TopicPartition{Topic: "t", Partition: 0}},
	}
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrElectLeadersRequest()
		req.ElectionType = 1
		resp := ask(c, version, req, kmsg.NewPtrElectLeadersResponse())
		got := fake.last().(controller.ElectLeaders)
		if !got.All || (got.Type == controller.UncleanElection) != (version >= 1) {
			t.Errorf("v%d: asked %+v", version, got)
		}
		if len(resp.Topics) != 2 || len(resp.Topics[0].Partitions) != 2 || resp.Topics[1].Partitions[0].ErrorCode != codeElectionNotNeeded {
			t.Errorf("v%d: %+v", version, resp.Topics)
		}
	}
}

func TestReassignments(t *testing.T) {
	fake, c := adminRig(t)
	fake.reassigned = []controller.PartitionResult{{TopicPartition: controller.TopicPartition{Topic: "t"}, Err: &controller.Error{Kind: kerr.NoReassignmentInProgress}}}
	for version := int16(0); version <= 1; version++ {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: 0}, {Partition: 1, Replicas: []int32{1}}}}}
		resp := ask(c, version, req, kmsg.NewPtrAlterPartitionAssignmentsResponse())
		got := fake.last().(controller.AlterReassignments).Partitions
		if got[0].Replicas != nil || fmt.Sprint(got[1].Replicas) != "[1]" || resp.Topics[0].Partitions[0].ErrorCode != codeNoReassignmentInProgress {
			t.Errorf("v%d: asked %+v, answered %+v", version, got, resp.Topics)
		}
		for _, allow := range []bool{true, false} {
			req.AllowReplicationFactorChange = allow
			ask(c, version, req, kmsg.NewPtrAlterPartitionAssignmentsResponse())
			if keep := fake.last().(controller.AlterReassignments).KeepFactor; keep != (version >= 1 && !allow) {
				t.Errorf("v%d: a change of the factor allowed is %v, asked to keep it %v", version, allow, keep)
			}
		}
	}
	// Behaviour 52: what is under way, of all topics or of those that are named.
	for _, topics := range [][]kmsg.ListPartitionReassignmentsRequestTopic{nil, {{Topic: "t", Partitions: []int32{0, 1, 9}}, {Topic: "gone", Partitions: []int32{0}}}} {
		list := kmsg.NewPtrListPartitionReassignmentsRequest()
		list.Topics = topics
		resp := ask(c, 0, list, kmsg.NewPtrListPartitionReassignmentsResponse())
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || fmt.Sprint(resp.Topics[0].Partitions[0].AddingReplicas) != "[2]" {
			t.Errorf("%+v", resp.Topics)
		}
	}
}

// What is under way is answered from a catalog that is recent, and where none can be had from the one that there is.
func TestReassignmentsAreRecent(t *testing.T) {
	for name, recent := range map[string]bool{"recent": true, "no leader": false} {
		t.Run(name, func(t *testing.T) {
			_, c := adminRig(t, func(deps *Deps, cat *catalog.Catalog) {
				deps.Recent = func(done func(error)) {
					if !recent {
						return
					}
					cat.Apply(catalog.Batch{Zxid: 2, Changes: []catalog.Change{{Kind: catalog.Changed, Path: catalog.TopicPath("t"), Czxid: 5, Data: catalog.EncodeTopic(
						catalog.TopicAssignment{ID: catalog.UUID{7}, Partitions: [][]int32{{1}, {1}}, Adding: map[int32][]int32{0: {2}, 1: {2}}})}}})
					go done(nil)
				}
			})
			resp := ask(c, 0, kmsg.NewPtrListPartitionReassignmentsRequest(), kmsg.NewPtrListPartitionReassignmentsResponse())
			if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) == 2 != recent {
				t.Errorf("%+v", resp.Topics)
			}
		})
	}
}

// Behaviours 51 and 52: what there is nothing of is answered as Kafka answers it, so that tools go on.
func TestNothingThere(t *testing.T) {
	_, c := adminRig(t)
	for version := int16(1); version <= 3; version++ {
		acls := ask(c, version, kmsg.NewPtrDescribeACLsRequest(), kmsg.NewPtrDescribeACLsResponse())
		create := kmsg.NewPtrCreateACLsRequest()
		create.Creations = append(create.Creations, kmsg.NewCreateACLsRequestCreation())
		remove := kmsg.NewPtrDeleteACLsRequest()
		remove.Filters = append(remove.Filters, kmsg.NewDeleteACLsRequestFilter())
		if acls.ErrorCode != codeSecurityDisabled ||
			ask(c, version, create, kmsg.NewPtrCreateACLsResponse()).Results[0].ErrorCode != codeSecurityDisabled ||
			ask(c, version, remove, kmsg.NewPtrDeleteACLsResponse()).Results[0].ErrorCode != codeSecurityDisabled {
			t.Errorf("v%d: %+v", version, acls)
		}
	}
	for version := int16(0); version <= 1; version++ {
		quotas := ask(c, version, kmsg.NewPtrDescribeClientQuotasRequest(), kmsg.NewPtrDescribeClientQuotasResponse())
		if quotas.ErrorCode != 0 || quotas.Entries == nil || len(quotas.Entries) != 0 {
			t.Errorf("v%d: quotas %+v", version, quotas)
		}
		list := ask(c, version, kmsg.NewPtrListConfigResourcesRequest(), kmsg.NewPtrListConfigResourcesResponse())
		if want := map[int16]int{0: 0, 1: 3}[version]; len(list.ConfigResources) != want {
			t.Errorf("v%d: resources %+v", version, list.ConfigResources)
		}
	}
	if scram := ask(c, 0, kmsg.NewPtrDescribeUserSCRAMCredentialsRequest(), kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()); scram.ErrorCode != 0 || len(scram.Results) != 0 {
		t.Errorf("%+v", scram)
	}
	named := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	named.Users = append(named.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: "u"})
	if scram := ask(c, 0, named, kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()); scram.Results[0].ErrorCode != codeResourceNotFound {
		t.Errorf("%+v", scram)
	}
}
