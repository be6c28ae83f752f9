package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of what is believed. A znode is at most a few MiB, so these are about sense, not about memory.
const (
	partitionsPerTopicMax = 100_000
	replicasMax           = 1_000
)

// TopicAssignment is a topic's znode: which brokers hold which partitions (kafka.zk.TopicZNode, version 3).
type TopicAssignment struct {
	ID               UUID
	Partitions       [][]int32 // replicas by partition number
	Adding, Removing map[int32][]int32
	// AutoReplication says that nobody asked for a replication factor. It is a field of ours.
	AutoReplication bool
}

type topicJSON struct {
	Partitions map[string][]int32 `json:"partitions"`
	TopicID    string             `json:"topic_id"`
	Adding     map[string][]int32 `json:"adding_replicas"`
	Removing   map[string][]int32 `json:"removing_replicas"`
	Version    int                `json:"version"`
	Auto       bool               `json:"auto_replication,omitempty"`
}

// EncodeTopic writes a topic's znode.
func EncodeTopic(a TopicAssignment) []byte {
	j := topicJSON{
		Version: 3, TopicID: a.ID.String(), Auto: a.AutoReplication,
		Partitions: make(map[string][]int32, len(a.Partitions)), Adding: byName(a.Adding), Removing: byName(a.Removing),
	}
	for i, replicas := range a.Partitions {
		j.Partitions[itoa(int32(i))] = orEmpty(replicas)
	}
	return mustJSON(j)
}

// DecodeTopic reads a topic's znode. Unknown fields are left alone; gaps in the partition numbers, negative brokers and
// reserved topic ids are refused.
func DecodeTopic(data []byte) (TopicAssignment, error) {
	var j topicJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return TopicAssignment{}, fmt.Errorf("topic: %w", err)
	}
	a := TopicAssignment{AutoReplication: j.Auto}
	var err error
	if a.ID, err = ParseUUID(j.TopicID); err != nil {
		return TopicAssignment{}, fmt.Errorf("topic_id: %w", err)
	}
	if a.ID.IsZero() || a.ID == oneUUID {
		return TopicAssignment{}, fmt.Errorf("topic_id %s is reserved", a.ID)
	}
	if len(j.Partitions) == 0 || len(j.Partitions) > partitionsPerTopicMax {
		return TopicAssignment{}, fmt.Errorf("topic has %d partitions", len(j.Partitions))
	}
	a.Partitions = make([][]int32, len(j.Partitions))
	for name, replicas := range j.Partitions {
		i, ok := parseIndex(name, int32(len(a.Partitions)-1))
		if !ok {
			return TopicAssignment{}, fmt.Errorf("partition %q among %d", name, len(a.Partitions))
		}
		if err := checkBrokers(replicas); err != nil || len(replicas) == 0 {
			return TopicAssignment{}, fmt.Errorf("replicas %v of partition %d make no sense", replicas, i)
		}
		a.Partitions[i] = replicas
	}
	if a.Adding, err = byIndex(j.Adding, len(a.Partitions)); err != nil {
		return TopicAssignment{}, fmt.Errorf("adding_replicas: %w", err)
	}
	if a.Removing, err = byIndex(j.Removing, len(a.Partitions)); err != nil {
		return TopicAssignment{}, fmt.Errorf("removing_replicas: %w", err)
	}
	return a, nil
}

// AssignmentOf gives a topic's znode back from the topic.
func AssignmentOf(t *Topic) TopicAssignment {
	a := TopicAssignment{ID: t.ID, AutoReplication: t.AutoReplication, Partitions: make([][]int32, len(t.Partitions))}
	for i, p := range t.Partitions {
		a.Partitions[i] = p.Replicas
		if len(p.Adding) > 0 {
			a.Adding = put(a.Adding, int32(i), p.Adding)
		}
		if len(p.Removing) > 0 {
			a.Removing = put(a.Removing, int32(i), p.Removing)
		}
	}
	return a
}

// Assign gives one partition of the assignment the replicas of p.
func (a *TopicAssignment) Assign(index int32, p *Partition) {
	a.Partitions[index] = p.Replicas
	for _, kind := range []struct {
		of  *map[int32][]int32
		ids []int32
	}{{&a.Adding, p.Adding}, {&a.Removing, p.Removing}} {
		if len(kind.ids) > 0 {
			*kind.of = put(*kind.of, index, kind.ids)
		} else {
			delete(*kind.of, index)
		}
	}
}

// PartitionState is a partition's state znode (kafka.zk.TopicPartitionStateZNode, version 1, and fields of ours).
type PartitionState struct {
	Leader            int32
	LeaderEpoch       int32
	LeaderBrokerEpoch int64
	ISR               []int32
	ELR               []int32
	Directories       map[int32]UUID // by broker
	ControllerEpoch   int32
}

type stateJSON struct {
	ControllerEpoch   int32             `json:"controller_epoch"`
	Leader            *int32            `json:"leader"`
	Version           int               `json:"version"`
	LeaderEpoch       *int32            `json:"leader_epoch"`
	ISR               []int32           `json:"isr"`
	ELR               []int32           `json:"elr,omitempty"`
	LeaderBrokerEpoch int64             `json:"leader_broker_epoch"`
	Directories       map[string]string `json:"directories,omitempty"`
}

// EncodeState writes a partition's state.
func EncodeState(s PartitionState) []byte {
	j := stateJSON{
		ControllerEpoch: s.ControllerEpoch, Leader: &s.Leader, Version: 1, LeaderEpoch: &s.LeaderEpoch,
		ISR: orEmpty(s.ISR), ELR: s.ELR, LeaderBrokerEpoch: s.LeaderBrokerEpoch,
	}
	if len(s.Directories) > 0 {
		j.Directories = make(map[string]string, len(s.Directories))
		for broker, id := range s.Directories {
			j.Directories[itoa(broker)] = id.String()
		}
	}
	return mustJSON(j)
}

// decodeState reads a partition's state.
func decodeState(data []byte) (PartitionState, error) {
	var j stateJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return PartitionState{}, fmt.Errorf("partition state: %w", err)
	}
	if j.Leader == nil || *j.Leader < NoLeader || j.LeaderEpoch == nil || *j.LeaderEpoch < 0 {
		return PartitionState{}, errors.New("partition state without a leader and a leader epoch")
	}
	if err := errors.Join(checkBrokers(j.ISR), checkBrokers(j.ELR)); err != nil {
		return PartitionState{}, fmt.Errorf("partition state: %w", err)
	}
	s := PartitionState{
		Leader: *j.Leader, LeaderEpoch: *j.LeaderEpoch, LeaderBrokerEpoch: j.LeaderBrokerEpoch,
		ISR: j.ISR, ELR: j.ELR, ControllerEpoch: j.ControllerEpoch, Directories: make(map[int32]UUID, len(j.Directories)),
	}
	for name, text := range j.Directories {
		broker, ok := parseIndex(name, 1<<31-1)
		id, err := ParseUUID(text)
		if !ok || err != nil {
			return PartitionState{}, fmt.Errorf("partition state: directory %q of broker %q", text, name)
		}
		s.Directories[broker] = id
	}
	return s, nil
}

type brokerJSON struct {
	Version     int                `json:"version"`
	Host        *string            `json:"host"`
	Port        int32              `json:"port"`
	JMXPort     int32              `json:"jmx_port"`
	Timestamp   string             `json:"timestamp"`
	Endpoints   []string           `json:"endpoints"`
	Security    map[string]string  `json:"listener_security_protocol_map"`
	Rack        *string            `json:"rack,omitempty"`
	Features    map[string]any     `json:"features"`
	Incarnation string             `json:"incarnation"`
	LogDirs     []logDirJSON       `json:"log_dirs"`
	UsedTenths  int                `json:"used_tenths,omitempty"`
	Offline     map[string][]int32 `json:"offline,omitempty"`
	Memory      uint64             `json:"memory,omitempty"`
	CleanStop   bool               `json:"clean_stop"`
}

type logDirJSON struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Failed bool   `json:"failed,omitempty"`
}

// EncodeBroker writes a broker's registration (kafka.zk.BrokerIdZNode, version 5, and fields of ours).
func EncodeBroker(b *Broker) []byte {
	j := brokerJSON{
		Version: 5, Port: -1, JMXPort: -1, Timestamp: strconv.FormatInt(b.Started.UnixMilli(), 10),
		Endpoints: []string{}, Security: map[string]string{}, Features: map[string]any{},
		Incarnation: b.Incarnation.String(), LogDirs: []logDirJSON{}, UsedTenths: b.UsedTenths, Memory: b.Memory, CleanStop: b.CleanStop,
	}
	for i, e := range b.Endpoints {
		j.Endpoints = append(j.Endpoints, e.Listener+"://"+net.JoinHostPort(e.Host, itoa(e.Port)))
		j.Security[e.Listener] = e.Security
		if i == 0 {
			j.Host, j.Port = &e.Host, e.Port
		}
	}
	if b.Rack != "" {
		j.Rack = &b.Rack
	}
	for id, list := range b.Offline {
		if j.Offline == nil {
			j.Offline = make(map[string][]int32, len(b.Offline))
		}
		j.Offline[id.String()] = list
	}
	for name, r := range b.Features {
		j.Features[name] = map[string]int16{"min_version": r[0], "max_version": r[1]}
	}
	for _, d := range b.LogDirs {
		j.LogDirs = append(j.LogDirs, logDirJSON{ID: d.ID.String(), Path: d.Path, Failed: d.Failed})
	}
	return mustJSON(j)
}

// decodeBroker reads a registration; ID and Epoch are the znode's and stay zero.
func decodeBroker(data []byte) (*Broker, error) {
	var j brokerJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{UsedTenths: min(max(j.UsedTenths, 0), 10), Memory: j.Memory, CleanStop: j.CleanStop}
	if j.Rack != nil {
		b.Rack = *j.Rack
	}
	if ms, err := strconv.ParseInt(j.Timestamp, 10, 64); err == nil {
		b.Started = time.UnixMilli(ms).UTC()
	}
	if j.Incarnation != "" {
		id, err := ParseUUID(j.Incarnation)
		if err != nil {
			return nil, fmt.Errorf("broker's incarnation: %w", err)
		}
		b.Incarnation = id
	}
	for _, text := range j.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		e.Security = j.Security[e.Listener]
		b.Endpoints = append(b.Endpoints, e)
	}
	for _, d := range j.LogDirs {
		id, err := ParseUUID(d.ID)
		if err != nil {
			return nil, fmt.Errorf("broker's log directory: %w", err)
		}
		b.LogDirs = append(b.LogDirs, LogDir{ID: id, Path: d.Path, Failed: d.Failed})
	}
	for text, list := range j.Offline {
		id, err := ParseUUID(text)
		if err != nil {
			return nil, fmt.Errorf("broker's offline partitions: %w", err)
		}
		if b.Offline == nil {
			b.Offline = make(map[UUID][]int32, len(j.Offline))
		}
		b.Offline[id] = list
	}
	b.Features = featuresOf(j.Features)
	return b, nil
}

// parseEndpoint reads LISTENER://host:port; the host may be empty.
func parseEndpoint(s string) (Endpoint, error) {
	listener, address, ok := strings.Cut(s, "://")
	host, portText, err := net.SplitHostPort(address)
	if !ok || err != nil || listener == "" {
		return Endpoint{}, fmt.Errorf("endpoint %q is not LISTENER://host:port", s)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: port: %w", s, err)
	}
	return Endpoint{Listener: listener, Host: host, Port: int32(port)}, nil
}

// featuresOf keeps the ranges that make sense; features are nothing to refuse a broker for.
func featuresOf(j map[string]any) map[string][2]int16 {
	features := map[string][2]int16{}
	for name, v := range j {
		r, _ := v.(map[string]any)
		lo, lok := r["min_version"].(float64)
		hi, hok := r["max_version"].(float64)
		if lok && hok && lo >= 0 && lo <= hi && hi < 1<<15 {
			features[name] = [2]int16{int16(lo), int16(hi)}
		}
	}
	return features
}

type configJSON struct {
	Version int               `json:"version"`
	Config  map[string]string `json:"config"`
}

// EncodeConfig writes a znode of settings.
func EncodeConfig(m map[string]string) []byte {
	if m == nil {
		m = map[string]string{}
	}
	return mustJSON(configJSON{Version: 1, Config: m})
}

// DecodeConfig reads a znode of settings. The result is never nil.
func DecodeConfig(data []byte) (map[string]string, error) {
	var j configJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if j.Config == nil {
		j.Config = map[string]string{}
	}
	return j.Config, nil
}

// ProducerIDBlock is the block of producer ids that was handed out last.
type ProducerIDBlock struct {
	Broker     int32
	Start, End int64 // inclusive
}

// ProducerIDBlockSize is Kafka's number of producer ids in a block (ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE).
const ProducerIDBlockSize = 1000

type producerIDsJSON struct {
	Version int    `json:"version"`
	Broker  int32  `json:"broker"`
	Start   string `json:"block_start"`
	End     string `json:"block_end"`
}

// EncodeProducerIDBlock writes latest_producer_id_block; the numbers are strings there, as in Kafka's.
func EncodeProducerIDBlock(b ProducerIDBlock) []byte {
	return mustJSON(producerIDsJSON{
		Version: 1, Broker: b.Broker, Start: strconv.FormatInt(b.Start, 10), End: strconv.FormatInt(b.End, 10),
	})
}

func decodeProducerIDBlock(data []byte) (ProducerIDBlock, error) {
	var j producerIDsJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return ProducerIDBlock{}, fmt.Errorf("producer ids: %w", err)
	}
	start, err1 := strconv.ParseInt(j.Start, 10, 64)
	end, err2 := strconv.ParseInt(j.End, 10, 64)
	if err := errors.Join(err1, err2); err != nil || start < 0 || end < start {
		return ProducerIDBlock{}, fmt.Errorf("producer ids from %q to %q", j.Start, j.End)
	}
	return ProducerIDBlock{Broker: j.Broker, Start: start, End: end}, nil
}

type controllerJSON struct {
	Version   int    `json:"version"`
	BrokerID  *int32 `json:"brokerid"`
	Timestamp string `json:"timestamp"`
}

// EncodeController writes the znode that names the controller; at is wall time, for people.
func EncodeController(broker int32, at time.Time) []byte {
	return mustJSON(controllerJSON{Version: 2, BrokerID: &broker, Timestamp: strconv.FormatInt(at.UnixMilli(), 10)})
}

func decodeController(data []byte) (int32, error) {
	var j controllerJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return 0, fmt.Errorf("controller: %w", err)
	}
	if j.BrokerID == nil || *j.BrokerID < -1 {
		return 0, errors.New("controller without a broker id")
	}
	return *j.BrokerID, nil
}

// EncodeControllerEpoch writes controller_epoch: a bare number.
func EncodeControllerEpoch(epoch int32) []byte { return []byte(itoa(epoch)) }

func decodeControllerEpoch(data []byte) (int32, error) {
	epoch, ok := parseIndex(string(data), 1<<31-1)
	if !ok {
		return 0, fmt.Errorf("controller epoch %.20q", data)
	}
	return epoch, nil
}

// EncodeClusterID writes cluster/id.
func EncodeClusterID(id string) []byte {
	return mustJSON(map[string]string{"version": "1", "id": id})
}

func decodeClusterID(data []byte) (string, error) {
	var j struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return "", fmt.Errorf("cluster id: %w", err)
	}
	if j.ID == "" || len(j.ID) > 256 {
		return "", fmt.Errorf("cluster id of %d characters", len(j.ID))
	}
	return j.ID, nil
}

// EncodeDeletion writes the mark of a topic that is being deleted. Kafka's is empty; ours names the id.
func EncodeDeletion(id UUID) []byte {
	return mustJSON(map[string]any{"version": 1, "topic_id": id.String()})
}

// Rebalance says whether the cluster may move replicas and leaders by itself. The zero value is that of a tree without such a
// znode: it may.
type Rebalance struct {
	Paused bool
	Exists bool // there is a znode
}

type rebalanceJSON struct {
	Version int  `json:"version"`
	Paused  bool `json:"paused"`
}

// EncodeRebalance writes admin/rebalance, which is ours.
func EncodeRebalance(paused bool) []byte { return mustJSON(rebalanceJSON{Version: 1, Paused: paused}) }

func decodeRebalance(data []byte) (Rebalance, error) {
	var j rebalanceJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return Rebalance{}, fmt.Errorf("rebalance: %w", err)
	}
	return Rebalance{Paused: j.Paused, Exists: true}, nil
}

// mustJSON encodes values of this package, which always can be.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("catalog: encode: " + err.Error())
	}
	return data
}

func checkBrokers(ids []int32) error {
	if len(ids) > replicasMax {
		return fmt.Errorf("%d brokers in one list", len(ids))
	}
	for i, id := range ids {
		if id < 0 || slices.Contains(ids[:i], id) {
			return fmt.Errorf("brokers %v make no sense", ids)
		}
	}
	return nil
}

func byName(m map[int32][]int32) map[string][]int32 {
	out := make(map[string][]int32, len(m))
	for i, ids := range m {
		out[itoa(i)] = ids
	}
	return out
}

func byIndex(m map[string][]int32, partitions int) (map[int32][]int32, error) {
	var out map[int32][]int32
	for _, name := range slices.Sorted(maps.Keys(m)) {
		i, ok := parseIndex(name, int32(partitions-1))
		if err := checkBrokers(m[name]); !ok || err != nil {
			return nil, fmt.Errorf("partition %q: %v", name, m[name])
		}
		out = put(out, i, m[name])
	}
	return out, nil
}

func put(m map[int32][]int32, i int32, ids []int32) map[int32][]int32 {
	if m == nil {
		m = map[int32][]int32{}
	}
	m[i] = ids
	return m
}

func orEmpty(ids []int32) []int32 {
	if ids == nil {
		return []int32{}
	}
	return ids
}
