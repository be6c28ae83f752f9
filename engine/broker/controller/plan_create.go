package controller

import (
	"maps"
	"slices"
	"strings"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kerr"
)

// partitionsPerRequestMax is Kafka's bound on one request (ReplicationControlManager, MAX_PARTITIONS_PER_BATCH).
const partitionsPerRequestMax = 10_000

// topicNameMax is the longest topic name (org.apache.kafka.common.internals.Topic).
const topicNameMax = 249

// metadataTopic is the name of Kafka's metadata log, which nobody may create.
const metadataTopic = "__cluster_metadata"

// creation plans CreateTopics.
type creation struct {
	req     CreateTopics
	done    func([]CreatedTopic)
	results []CreatedTopic
	order   []string
	topics  map[string]*topicCreation
	checked bool
}

// topicCreation is one topic of the request. The id is drawn once: a topic of this name and id that is found on a later
// step is the one that this request has made.
type topicCreation struct {
	req    NewTopic
	id     catalog.UUID
	auto   bool // the replication factor was left to the controller
	found  bool // an earlier step's topic was there: what is gone then was deleted, and is not made again
	result *CreatedTopic
}

func newCreation(req CreateTopics, done func([]CreatedTopic)) *creation {
	return &creation{req: req, done: done, topics: map[string]*topicCreation{}}
}

func (c *creation) step(w *work, f *facts) outcome {
	if !c.checked {
		c.check()
	}
	if c.req.ValidateOnly {
		w = w.trial()
	}
	for _, name := range c.order {
		t := c.topics[name]
		if t.result != nil && t.result.Err != nil {
			continue
		}
		if w.full() {
			return again
		}
		if result, finished := t.step(w, f, c.req.ValidateOnly); finished {
			t.result = result
		} else {
			return again
		}
	}
	c.results = c.results[:0]
	for _, name := range c.order {
		c.results = append(c.results, *c.topics[name].result)
	}
	return ready
}

// check refuses what needs no catalog: names that stand there twice, too much at a time.
func (c *creation) check() {
	c.checked = true
	var total int64
	for _, t := range c.req.Topics {
		if first, ok := c.topics[t.Name]; ok {
			first.result = &CreatedTopic{Name: t.Name, Err: refuse(kerr.InvalidRequest, "Duplicate topic name.")}
			continue
		}
		c.order = append(c.order, t.Name)
		c.topics[t.Name] = &topicCreation{req: t}
		total += max(int64(t.Partitions), int64(len(t.Assignments)), 1)
	}
	if _, ok := c.topics[metadataTopic]; ok {
		c.topics[metadataTopic].result = &CreatedTopic{Name: metadataTopic,
			Err: refuse(kerr.InvalidRequest, "Creation of internal topic %s is prohibited.", metadataTopic)}
	}
	if total > partitionsPerRequestMax {
		for name, t := range c.topics {
			t.result = &CreatedTopic{Name: name, Err: refuse(kerr.PolicyViolation, "Excessively large number of partitions per request.")}
		}
	}
}

func (c *creation) answer() { c.done(c.results) }

func (c *creation) fail(err *Error) {
	if !c.checked {
		c.check()
	}
	results := make([]CreatedTopic, 0, len(c.order))
	for _, name := range c.order {
		r := CreatedTopic{Name: name, Err: err}
		if t := c.topics[name]; t.result != nil && t.result.Err != nil {
			r = *t.result
		}
		results = append(results, r)
	}
	c.done(results)
}

// step plans one topic. finished is false when the multi is full or nobody lives who could lead the partitions yet.
func (t *topicCreation) step(w *work, f *facts, trial bool) (result *CreatedTopic, finished bool) {
	existing := w.now.Topic(t.req.Name)
	switch made := t.made(existing); {
	case made && !existing.Deleting:
		return t.continueWith(w, f, existing)
	case t.found:
		return &CreatedTopic{Name: t.req.Name, Err: refuse(kerr.UnknownTopicOrPartition, "The topic '%s' was deleted before all its partitions had a leader.", t.req.Name)}, true
	}
	refused := func(err *Error) (*CreatedTopic, bool) { return &CreatedTopic{Name: t.req.Name, Err: err}, true }
	if err := checkName(w.now, t.req.Name); err != nil {
		return refused(err)
	}
	overrides, err := newOverrides(w.now, t.req.Configs)
	if err != nil {
		return refused(err)
	}
	replicas, auto, err := assignNew(w.now, f, t)
	if err != nil {
		return refused(err)
	}
	if f.partitionsMax > 0 && w.now.PartitionCount()+len(replicas) > f.partitionsMax {
		return refused(refuse(kerr.PolicyViolation, "This cluster takes at most %d partitions and has %d.", f.partitionsMax, w.now.PartitionCount()))
	}
	assignment := catalog.TopicAssignment{ID: t.id, Partitions: replicas, AutoReplication: auto}
	if len(overrides) > 0 || w.now.HasTopicConfig(t.req.Name) {
		w.do(put(w.now.HasTopicConfig(t.req.Name), catalog.TopicConfigPath(t.req.Name), catalog.EncodeConfig(overrides)))
	}
	w.do(create(catalog.TopicPath(t.req.Name), catalog.EncodeTopic(assignment)))
	if trial {
		return t.created(w.now.Topic(t.req.Name)), true
	}
	return t.continueWith(w, f, w.now.Topic(t.req.Name))
}

// made reports whether a topic that is there is the one that an earlier step has made.
func (t *topicCreation) made(existing *catalog.Topic) bool {
	if existing == nil || t.id.IsZero() || existing.ID != t.id {
		return false
	}
	t.found = true
	return true
}

// continueWith plans the states of a topic that is there, and finds the answer once every partition has one.
func (t *topicCreation) continueWith(w *work, f *facts, topic *catalog.Topic) (*CreatedTopic, bool) {
	if !initialStates(w, f, topic.Name) {
		return nil, false
	}
	topic = w.now.Topic(topic.Name)
	for _, p := range topic.Partitions {
		if !p.HasState {
			return nil, false
		}
	}
	return t.created(topic), true
}

func (t *topicCreation) created(topic *catalog.Topic) *CreatedTopic {
	return &CreatedTopic{
		Name: topic.Name, ID: topic.ID, Partitions: int32(len(topic.Partitions)),
		ReplicationFactor: int16(topic.ReplicationFactor()), Overrides: topic.Overrides,
	}
}

// newOverrides are the settings of a new topic, checked.
func newOverrides(s *catalog.Snapshot, configs []ConfigValue) (map[string]string, *Error) {
	var null []string
	overrides := map[string]string{}
	for _, c := range configs {
		if c.Value == nil {
			null = append(null, c.Name)
			continue
		}
		overrides[c.Name] = *c.Value
	}
	if len(null) > 0 {
		return nil, refuse(kerr.InvalidConfig, "Null value not supported for topic configs: %s", strings.Join(null, ","))
	}
	if err := checkSize(overrides); err != nil {
		return nil, err
	}
	if err := s.Settings.ValidateTopic(overrides); err != nil {
		return nil, refuse(kerr.InvalidConfig, "%v", err)
	}
	return overrides, nil
}

// CheckName refuses names that cannot be topics' and names that are taken or would collide: metrics know no difference
// between '.' and '_' (org.apache.kafka.common.internals.Topic).
func CheckName(s *catalog.Snapshot, name string) error {
	if err := checkName(s, name); err != nil {
		return err
	}
	return nil
}

func checkName(s *catalog.Snapshot, name string) *Error {
	if reason := invalidName(name); reason != "" {
		return refuse(kerr.InvalidTopicException, "Topic name is invalid: %s", reason)
	}
	if t := s.Topic(name); t != nil {
		if t.Deleting {
			return refuse(kerr.TopicAlreadyExists, "Topic '%s' is marked for deletion.", name)
		}
		return refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", name)
	}
	if other, collides := s.Colliding(name); collides {
		return refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", name, other)
	}
	return nil
}

// invalidName says why a name cannot be a topic's; empty for a good one. The texts are Kafka's.
func invalidName(name string) string {
	switch {
	case name == "":
		return "the empty string is not allowed"
	case name == ".":
		return "'.' is not allowed"
	case name == "..":
		return "'..' is not allowed"
	case len(name) > topicNameMax:
		return "the length of '" + name + "' is longer than the max allowed length 249"
	case strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}):
		return "'" + name + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
	}
	return ""
}

// assignNew chooses or checks the replicas of a new topic, and draws its id.
func assignNew(s *catalog.Snapshot, f *facts, t *topicCreation) (replicas [][]int32, auto bool, err *Error) {
	if t.id.IsZero() {
		id, drawErr := f.newID()
		if drawErr != nil {
			return nil, false, AsError(drawErr)
		}
		t.id = id
	}
	if len(t.req.Assignments) > 0 {
		replicas, err = manual(s, t.req)
		return replicas, false, err
	}
	switch {
	case t.req.ReplicationFactor < -1 || t.req.ReplicationFactor == 0:
		return nil, false, refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case t.req.Partitions < -1 || t.req.Partitions == 0:
		return nil, false, refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	partitions, factor := int(t.req.Partitions), int(t.req.ReplicationFactor)
	if partitions == -1 {
		partitions = int(s.Settings.Int("num.partitions"))
	}
	if factor == -1 {
		factor, auto = s.Settings.ReplicationFactor(s.BrokerCount())
	}
	replicas, err = place(s, f, t.id, 0, partitions, factor)
	return replicas, auto || t.auto, err
}

// manual checks an assignment that was asked for.
func manual(s *catalog.Snapshot, req NewTopic) ([][]int32, *Error) {
	if req.ReplicationFactor != -1 {
		return nil, refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if req.Partitions != -1 {
		return nil, refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	byPartition := map[int32][]int32{}
	factor := 0
	for _, a := range req.Assignments {
		if _, ok := byPartition[a.Partition]; ok {
			return nil, refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := checkReplicas(s, a.Brokers, factor); err != nil {
			return nil, err
		}
		factor = len(a.Brokers)
		byPartition[a.Partition] = a.Brokers
	}
	replicas := make([][]int32, len(byPartition))
	for i := range replicas {
		brokers, ok := byPartition[int32(i)]
		if !ok {
			return nil, refuse(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		replicas[i] = brokers
	}
	return replicas, nil
}

// checkReplicas refuses replicas that cannot be: none, twice, unknown, or not as many as factor when that is not 0.
func checkReplicas(s *catalog.Snapshot, brokers []int32, factor int) *Error {
	if len(brokers) == 0 {
		return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(brokers))
	for i, b := range sorted {
		if s.Broker(b) == nil {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", b)
		}
		if i > 0 && sorted[i-1] == b {
			return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", b)
		}
	}
	if factor != 0 && len(brokers) != factor {
		return refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes a partition with %d replica(s), "+
			"but this is not consistent with previous partitions, which have %d replica(s).", len(brokers), factor)
	}
	return nil
}

// internalCreation makes one of Kafka's own topics with the partitions and settings that the broker has for it.
func internalCreation(s *catalog.Snapshot, name string) *topicCreation {
	kind := "offsets.topic"
	if name == catalog.TransactionStateTopic {
		kind = "transaction.state.log"
	}
	partitions, replicas, auto, overrides := s.Settings.InternalTopic(kind, s.BrokerCount())
	req := NewTopic{Name: name, Partitions: int32(partitions), ReplicationFactor: int16(replicas)}
	for _, key := range slices.Sorted(maps.Keys(overrides)) {
		value := overrides[key]
		req.Configs = append(req.Configs, ConfigValue{Name: key, Value: &value})
	}
	return &topicCreation{req: req, auto: auto}
}

// ensuring plans a topic that somebody needs: it is ready when the topic is there with all its leaders, whoever made it.
type ensuring struct {
	name     string
	done     func(error)
	creation *topicCreation
	err      *Error
}

func (e *ensuring) step(w *work, f *facts) outcome {
	if w.full() {
		return again
	}
	t := w.now.Topic(e.name)
	if t != nil && t.Deleting {
		return again
	}
	if e.creation == nil {
		e.creation = &topicCreation{req: NewTopic{Name: e.name, Partitions: -1, ReplicationFactor: -1}}
		if catalog.IsInternal(e.name) {
			e.creation = internalCreation(w.now, e.name)
		}
	}
	var finished bool
	if t != nil {
		e.creation.made(t)
		_, finished = e.creation.continueWith(w, f, t)
	} else {
		var result *CreatedTopic
		if result, finished = e.creation.step(w, f, false); finished {
			e.err = result.Err
		}
	}
	if !finished {
		return again
	}
	return ready
}

func (e *ensuring) answer() {
	if e.err != nil {
		e.done(e.err)
		return
	}
	e.done(nil)
}

func (e *ensuring) fail(err *Error) { e.done(err) }
