package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cairn/engine/broker/settings"
)

// problemsMax bounds what a snapshot remembers of nonsense.
const problemsMax = 16

// Project applies one batch to a snapshot and returns the next one; prev stays as it was. It is a pure function: the
// same changes give the same snapshot however they are split into batches, but for Zxid and Problems, which are the last
// batch's. A znode that makes no sense is ignored (what was known before stays) and reported in Problems.
func Project(prev *Snapshot, b Batch) *Snapshot {
	next := *prev
	next.Zxid = b.Zxid
	next.Problems = nil
	p := projection{Snapshot: &next, fresh: map[*Topic]bool{}}
	if b.Reset {
		next.forget()
	}
	for _, c := range b.Changes {
		if c.Mzxid == 0 {
			c.Mzxid = b.Zxid
		}
		if err := p.apply(c); err != nil && len(next.Problems) < problemsMax {
			next.Problems = append(next.Problems, Problem{Path: c.Path, Err: err})
		}
	}
	if p.settingsChanged {
		p.resettle()
	}
	return &next
}

// forget makes the snapshot that of an empty tree.
func (s *Snapshot) forget() {
	*s = Snapshot{Zxid: s.Zxid, base: s.base, ControllerID: -1, ControllerEpochVersion: -1}
	s.Settings = settings.NewBroker(s.base.Static, nil, nil)
}

// projection is a snapshot in the making. fresh holds the topics that this batch has copied already: a topic is copied
// once a batch, however many of its partitions change.
type projection struct {
	*Snapshot
	fresh           map[*Topic]bool
	settingsChanged bool
}

var errStray = errors.New("belongs to nothing that is known")

// apply takes one change. Paths that the catalog does not know are none of its business.
func (p *projection) apply(c Change) error {
	rest, ok := strings.CutPrefix(c.Path, Root+"/")
	if !ok {
		return nil
	}
	switch {
	case c.Path == ClusterIDPath:
		return p.clusterID(c)
	case c.Path == ControllerPath:
		return p.controller(c)
	case c.Path == ControllerEpochPath:
		return p.controllerEpoch(c)
	case c.Path == ProducerIDBlockPath:
		return p.producerIDs(c)
	case c.Path == RebalancePath:
		return p.rebalance(c)
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 3 {
		return nil
	}
	name := parts[2]
	switch parts[0] + "/" + parts[1] {
	case "brokers/ids":
		return p.broker(c, name)
	case "brokers/topics":
		return p.topicNode(c, name, parts[3:])
	case "config/topics":
		return p.topicConfig(c, name)
	case "config/brokers":
		return p.brokerConfig(c, name)
	case "admin/delete_topics":
		p.deletion(c, name)
	}
	return nil
}

func (p *projection) clusterID(c Change) (err error) {
	if c.Kind == Deleted {
		p.ClusterID = ""
		return nil
	}
	id, err := decodeClusterID(c.Data)
	if err == nil {
		p.ClusterID = id
	}
	return err
}

func (p *projection) controller(c Change) error {
	if c.Kind == Deleted {
		p.ControllerID = -1
		return nil
	}
	id, err := decodeController(c.Data)
	if err == nil {
		p.ControllerID = id
	}
	return err
}

func (p *projection) controllerEpoch(c Change) error {
	if c.Kind == Deleted {
		p.ControllerEpoch, p.ControllerEpochVersion = 0, -1
		return nil
	}
	epoch, err := decodeControllerEpoch(c.Data)
	if err != nil {
		return err
	}
	p.ControllerEpoch, p.ControllerEpochVersion = epoch, c.Version
	return nil
}

func (p *projection) producerIDs(c Change) error {
	if c.Kind == Deleted {
		p.ProducerIDs = nil
		return nil
	}
	block, err := decodeProducerIDBlock(c.Data)
	if err == nil {
		p.ProducerIDs = &block
	}
	return err
}

func (p *projection) rebalance(c Change) error {
	if c.Kind == Deleted {
		p.Rebalance = Rebalance{}
		return nil
	}
	r, err := decodeRebalance(c.Data)
	if err == nil {
		p.Rebalance = r
	}
	return err
}

func (p *projection) broker(c Change, name string) error {
	id, ok := parseIndex(name, 1<<31-1)
	if !ok {
		return fmt.Errorf("%q is no broker id", name)
	}
	if c.Kind == Deleted {
		p.brokers = p.brokers.without(brokerKey(id))
		return nil
	}
	b, err := decodeBroker(c.Data)
	if err != nil {
		return err
	}
	b.ID, b.Epoch = id, c.Czxid
	p.brokers = p.brokers.put(brokerKey(id), b)
	return nil
}

// topicNode takes a change of brokers/topics/<name> or below it.
func (p *projection) topicNode(c Change, name string, below []string) error {
	if len(below) == 0 {
		return p.topic(c, name)
	}
	if below[0] != "partitions" || len(below) > 3 {
		return nil
	}
	t := p.Topic(name)
	if t == nil {
		return errStray
	}
	if len(below) == 1 {
		p.writable(name).PartitionsNode = c.Kind != Deleted
		return nil
	}
	index, ok := parseIndex(below[1], int32(max(len(t.Partitions)-1, 0)))
	if !ok || t.Partition(index) == nil {
		return errStray
	}
	if len(below) == 3 && below[2] != "state" {
		return nil
	}
	part := *t.Partitions[index]
	if len(below) == 2 {
		part.Node = c.Kind != Deleted
	} else if err := partitionState(&part, c); err != nil {
		return err
	}
	p.writable(name).Partitions[index] = &part
	return nil
}

// partitionState takes a change of a partition's state into part.
func partitionState(part *Partition, c Change) error {
	if c.Kind == Deleted {
		*part = Partition{Topic: part.Topic, Index: part.Index, Replicas: part.Replicas, Adding: part.Adding, Removing: part.Removing, Leader: NoLeader, Node: part.Node}
		return nil
	}
	s, err := decodeState(c.Data)
	if err != nil {
		return err
	}
	part.HasState, part.StateNode = true, true
	part.Leader, part.LeaderEpoch, part.LeaderBrokerEpoch = s.Leader, s.LeaderEpoch, s.LeaderBrokerEpoch
	part.ISR, part.ELR = s.ISR, s.ELR
	part.ControllerEpoch, part.PartitionEpoch, part.StateZxid = s.ControllerEpoch, c.Version, c.Mzxid
	part.Directories = directoriesOf(part.Replicas, s.Directories)
	return nil
}

func directoriesOf(replicas []int32, byBroker map[int32]UUID) []UUID {
	dirs := make([]UUID, len(replicas))
	for i, r := range replicas {
		dirs[i] = byBroker[r]
	}
	return dirs
}

func (p *projection) topic(c Change, name string) error {
	old := p.Topic(name)
	if c.Kind == Deleted {
		if old != nil {
			p.topics = p.topics.without(name)
			p.unified = p.unified.without(unifiedKey(name, name))
			p.names = p.names.without(string(old.ID[:]))
			p.partitions -= len(old.Partitions)
		}
		return nil
	}
	a, err := DecodeTopic(c.Data)
	if err != nil {
		return err
	}
	t := &Topic{Name: name}
	if old != nil {
		if old.ID != a.ID {
			p.names = p.names.without(string(old.ID[:]))
		}
		p.partitions -= len(old.Partitions)
		t = p.writable(name)
	}
	p.assign(t, a, c.Version)
	p.fresh[t] = true
	p.topics = p.topics.put(name, t)
	if old == nil && strings.ContainsAny(name, "._") {
		p.unified = p.unified.put(unifiedKey(name, name), name)
	}
	p.names = p.names.put(string(t.ID[:]), name)
	p.partitions += len(t.Partitions)
	p.settle(t)
	return nil
}

// assign gives t the partitions of an assignment and keeps the states that they had.
func (p *projection) assign(t *Topic, a TopicAssignment, version int32) {
	parts := make([]*Partition, len(a.Partitions))
	for i, replicas := range a.Partitions {
		part := Partition{Leader: NoLeader}
		if i < len(t.Partitions) && t.ID == a.ID {
			part = *t.Partitions[i]
		}
		byBroker := part.State().Directories
		part.Topic, part.Index = a.ID, int32(i)
		part.Replicas, part.Adding, part.Removing = replicas, a.Adding[int32(i)], a.Removing[int32(i)]
		if part.HasState {
			part.Directories = directoriesOf(replicas, byBroker)
		}
		parts[i] = &part
	}
	t.ID, t.Partitions, t.Version, t.AutoReplication = a.ID, parts, version, a.AutoReplication
	_, t.Deleting = p.deletions.get(t.Name)
}

// writable gives the topic of that name as a copy that this batch may change. It must exist.
func (p *projection) writable(name string) *Topic {
	t := p.Topic(name)
	if p.fresh[t] {
		return t
	}
	c := *t
	c.Partitions = slices.Clone(t.Partitions)
	p.fresh[&c] = true
	p.topics = p.topics.put(name, &c)
	return &c
}

// settle computes what the topic's settings come to.
func (p *projection) settle(t *Topic) {
	t.Overrides = p.TopicOverrides(t.Name)
	t.Settings = p.Settings.Topic(t.Overrides)
}

// resettle does so for every topic after the broker's own settings changed.
func (p *projection) resettle() {
	all, _ := p.DefaultBrokerOverrides()
	own, _ := p.BrokerOverrides(p.base.BrokerID)
	p.Settings = settings.NewBroker(p.base.Static, all, own)
	for name := range p.topics.all("") {
		p.settle(p.writable(name))
	}
}

func (p *projection) topicConfig(c Change, name string) error {
	m, err := p.config(&p.topicConfigs, c, name)
	if err != nil {
		return err
	}
	if t := p.Topic(name); t != nil && !maps.Equal(t.Overrides, m) {
		p.settle(p.writable(name))
	}
	return nil
}

func (p *projection) brokerConfig(c Change, name string) error {
	if _, err := p.config(&p.brokerConfigs, c, name); err != nil {
		return err
	}
	p.settingsChanged = p.settingsChanged || name == defaultBroker || name == itoa(p.base.BrokerID)
	return nil
}

// config keeps one znode of settings and returns what it says.
func (p *projection) config(in *ordered[map[string]string], c Change, name string) (map[string]string, error) {
	if c.Kind == Deleted {
		*in = in.without(name)
		return nil, nil
	}
	m, err := DecodeConfig(c.Data)
	if err != nil {
		return nil, err
	}
	*in = in.put(name, m)
	return m, nil
}

func (p *projection) deletion(c Change, name string) {
	marked := c.Kind != Deleted
	if marked {
		p.deletions = p.deletions.put(name, struct{}{})
	} else {
		p.deletions = p.deletions.without(name)
	}
	if t := p.Topic(name); t != nil && t.Deleting != marked {
		p.writable(name).Deleting = marked
	}
}
