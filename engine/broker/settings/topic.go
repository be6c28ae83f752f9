package settings

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TimestampType says whose timestamps records carry.
type TimestampType int8

// The timestamp types, with the values of a batch's attribute bit.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// Topic is what a topic's settings come to on this broker. It is immutable. Durations of settings that are -1 are -1,
// which means for ever.
type Topic struct {
	Delete, Compact     bool          // cleanup.policy
	SegmentBytes        int32         // segment.bytes
	SegmentAge          time.Duration // segment.ms
	SegmentJitter       time.Duration // segment.jitter.ms
	IndexBytes          int32         // segment.index.bytes
	IndexIntervalBytes  int32         // index.interval.bytes
	RetentionBytes      int64         // retention.bytes; negative means no bound
	Retention           time.Duration // retention.ms
	FileDeleteDelay     time.Duration // file.delete.delay.ms
	MaxMessageBytes     int32         // max.message.bytes
	TimestampType       TimestampType // message.timestamp.type
	TimestampBeforeMax  time.Duration // message.timestamp.before.max.ms
	TimestampAfterMax   time.Duration // message.timestamp.after.max.ms
	UncleanElection     bool          // unclean.leader.election.enable
	Flushed             bool          // cairn.durability=flushed: an acknowledged record is on stable storage
	RefuseWhenFull      bool          // cairn.full=refuse
	ValidateCompressed  bool          // cairn.validate.compressed
	DeleteRetention     time.Duration // delete.retention.ms
	MinCompactionLag    time.Duration // min.compaction.lag.ms
	MaxCompactionLag    time.Duration // max.compaction.lag.ms
	MinCleanableRatio   float64       // min.cleanable.dirty.ratio
	LeaderThrottled     Throttled     // leader.replication.throttled.replicas
	FollowerThrottled   Throttled     // follower.replication.throttled.replicas
	minISR              int           // min.insync.replicas; 0 means auto
	flushMessages       int64
	flushInterval       int64
	minLagMs, maxLagMs  int64
	remoteStorageEnable bool
}

// MinInSyncReplicas is how many in-sync replicas acks=all needs on a partition of that many replicas.
func (t *Topic) MinInSyncReplicas(replicas int) int {
	if t.minISR == 0 {
		return autoMinISR(replicas)
	}
	return t.minISR
}

// EffectiveMinISR is the same, but for no more than there are replicas: so many in sync let the high watermark move, and with
// fewer those that leave stay eligible leaders (Kafka's effective min ISR). Leader and controller must agree on it.
func (t *Topic) EffectiveMinISR(replicas int) int {
	return min(t.MinInSyncReplicas(replicas), replicas)
}

// Topic gives the settings of a topic with those overrides, which may be nil. A value that does not parse (a tree from
// a newer version) is ignored.
func (b *Broker) Topic(overrides map[string]string) *Topic {
	if len(overrides) == 0 {
		return b.defaults
	}
	return b.topic(overrides)
}

func (b *Broker) topic(overrides map[string]string) *Topic {
	get := func(name string) parsed { return b.topicValue(overrides, name) }
	ms := func(name string) time.Duration { return milliseconds(get(name).number) }
	policy := get("cleanup.policy").list
	t := &Topic{
		Delete: slices.Contains(policy, "delete"), Compact: slices.Contains(policy, "compact"),
		SegmentBytes: int32(get("segment.bytes").number), SegmentAge: ms("segment.ms"), SegmentJitter: ms("segment.jitter.ms"),
		IndexBytes: int32(get("segment.index.bytes").number), IndexIntervalBytes: int32(get("index.interval.bytes").number),
		RetentionBytes: get("retention.bytes").number, Retention: ms("retention.ms"), FileDeleteDelay: ms("file.delete.delay.ms"),
		MaxMessageBytes:    int32(get("max.message.bytes").number),
		TimestampBeforeMax: ms("message.timestamp.before.max.ms"), TimestampAfterMax: ms("message.timestamp.after.max.ms"),
		UncleanElection: get("unclean.leader.election.enable").truth,
		Flushed:         get("cairn.durability").text == "flushed", RefuseWhenFull: get("cairn.full").text == "refuse",
		ValidateCompressed: get("cairn.validate.compressed").truth,
		DeleteRetention:    ms("delete.retention.ms"), MinCompactionLag: ms("min.compaction.lag.ms"),
		MaxCompactionLag: ms("max.compaction.lag.ms"), MinCleanableRatio: get("min.cleanable.dirty.ratio").real,
		LeaderThrottled: throttledOf(get("leader.replication.throttled.replicas").list), FollowerThrottled: throttledOf(get("follower.replication.throttled.replicas").list),
		minISR:        int(get("min.insync.replicas").number),
		flushMessages: get("flush.messages").number, flushInterval: get("flush.ms").number,
		minLagMs: get("min.compaction.lag.ms").number, maxLagMs: get("max.compaction.lag.ms").number,
		remoteStorageEnable: get("remote.storage.enable").truth,
	}
	if get("message.timestamp.type").text == "LogAppendTime" {
		t.TimestampType = LogAppendTime
	}
	return t
}

// topicValue is the value of one topic setting: the override, else the strongest synonym that the broker has a value
// for, else the default.
func (b *Broker) topicValue(overrides map[string]string, name string) parsed {
	d := topicDefinitions[name]
	if v, ok := overrides[name]; ok {
		if v == Auto && mayBeAuto(name) {
			return parsed{}
		}
		if p, err := d.accept(v); err == nil {
			return p
		}
	}
	for _, synonym := range d.Synonyms {
		if p := b.value(synonym); !p.null {
			if factor := unitFactor(synonym); factor != 1 && p.number >= 0 {
				p.number *= factor
			}
			return p
		}
	}
	p, _ := d.parse(d.Default)
	return p
}

// Throttled are the replicas that a throttle is for. The zero value is none.
type Throttled struct {
	all      bool
	replicas map[[2]int32]bool // partition and broker
}

func throttledOf(list []string) (t Throttled) {
	for _, text := range list {
		if text == "*" {
			return Throttled{all: true}
		}
		partition, broker, _ := strings.Cut(text, ":")
		p, err1 := strconv.ParseInt(partition, 10, 32)
		b, err2 := strconv.ParseInt(broker, 10, 32)
		if err1 != nil || err2 != nil {
			continue // a number that no partition has
		}
		if t.replicas == nil {
			t.replicas = map[[2]int32]bool{}
		}
		t.replicas[[2]int32{int32(p), int32(b)}] = true
	}
	return t
}

// Has reports whether a partition's replica on a broker is throttled.
func (t Throttled) Has(partition, broker int32) bool {
	return t.all || t.replicas[[2]int32{partition, broker}]
}

const flushDefault = 1<<63 - 1

// CheckDurability refuses settings that promise a flush which nobody would do: those of flush.messages and flush.ms on
// a topic whose acknowledgements do not wait for the disk.
func CheckDurability(t *Topic) error {
	if t.Flushed {
		return nil
	}
	for name, v := range map[string]int64{"flush.messages": t.flushMessages, "flush.ms": t.flushInterval} {
		if v != flushDefault {
			return invalid(name, fmt.Sprint(v), "a topic with cairn.durability=replicated is not flushed by the broker; "+
				"cairn.durability=flushed flushes before every acknowledgement")
		}
	}
	return nil
}

// ValidateTopic checks all overrides that a topic is to have (LogConfig.validate). The error's text is Kafka's.
func (b *Broker) ValidateTopic(overrides map[string]string) error {
	names := sortedKeys(overrides)
	for _, name := range names {
		if topicDefinitions[name] == nil {
			return &Invalid{Name: name, text: "Unknown topic config name: " + name}
		}
	}
	for _, name := range names {
		if overrides[name] == Auto && mayBeAuto(name) {
			continue
		}
		if _, err := topicDefinitions[name].accept(overrides[name]); err != nil {
			return err
		}
	}
	t := b.Topic(overrides)
	if t.minLagMs > t.maxLagMs {
		return &Invalid{Name: "min.compaction.lag.ms", text: fmt.Sprintf(
			"conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", t.minLagMs, t.maxLagMs)}
	}
	if t.remoteStorageEnable {
		return &Invalid{Name: "remote.storage.enable", text: "Tiered Storage functionality is disabled in the broker. " +
			"Topic cannot be configured with remote log storage."}
	}
	return CheckDurability(t)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
