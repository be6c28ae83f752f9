package settings

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestInvalidLikeKafka: the texts are those that Kafka 4.4's LogConfig.validate gave for the same values.
func TestInvalidLikeKafka(t *testing.T) {
	b := NewBroker(NewStatic(nil, nil), nil, nil)
	for _, c := range []struct{ name, value, want string }{
		{"nope", "1", "Unknown topic config name: nope"},
		{"segment.bytes", "x", "Invalid value x for configuration segment.bytes: Not a number of type INT"},
		{"segment.bytes", "10", "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576"},
		{"segment.bytes", "99999999999", "Invalid value 99999999999 for configuration segment.bytes: Not a number of type INT"},
		{"cleanup.policy", "foo", "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"},
		{"cleanup.policy", "", ""},
		{"cleanup.policy", "compact,delete", ""},
		{"cleanup.policy", "compact,compact", ""},
		{"cleanup.policy", "compact, ,delete", "Configuration 'cleanup.policy' values must not be empty."},
		{"retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"},
		{"retention.ms", " 5 ", ""},
		{"retention.bytes", "-5", ""},
		{"preallocate", "yes", "Invalid value yes for configuration preallocate: Expected value to be either true or false"},
		{"unclean.leader.election.enable", "TRUE", ""},
		{"min.cleanable.dirty.ratio", "2", "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"},
		{"min.cleanable.dirty.ratio", "abc", "Invalid value abc for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE"},
		{"compression.type", "foo", "Invalid value foo for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
		{"compression.gzip.level", "0", "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"},
		{"compression.lz4.level", "0", "Invalid value 0 for configuration compression.lz4.level: Value must be at least 1"},
		{"compression.zstd.level", "30", "Invalid value 30 for configuration compression.zstd.level: Value must be no more than 22"},
		{"message.timestamp.type", "X", "Invalid value X for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime"},
		{"min.insync.replicas", "0", "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"},
		{"min.insync.replicas", "auto", ""}, // ours
		{"leader.replication.throttled.replicas", "abc", "Invalid value [abc] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."},
		{"leader.replication.throttled.replicas", "0:1,1:2", ""},
		{"leader.replication.throttled.replicas", "*", ""},
		{"remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."},
		{"local.retention.ms", "-3", "Invalid value -3 for configuration local.retention.ms: Value must be at least -2"},
		{"flush.ms", "", "Invalid value  for configuration flush.ms: Not a number of type LONG"},
		{"cairn.durability", "maybe", "Invalid value maybe for configuration cairn.durability: String must be one of: flushed, replicated"},
	} {
		got := ""
		if err := b.ValidateTopic(map[string]string{c.name: c.value}); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s=%q:\n got %s\nwant %s", c.name, c.value, got, c.want)
		}
	}
}

// TestDescribeLikeKafka compares every described setting with what a real Kafka 4.4 printed for the same overrides.
// What differs is listed here, each for a reason.
func TestDescribeLikeKafka(t *testing.T) {
	text, err := os.ReadFile("testdata/kafka-4.4.0-describe.txt")
	if err != nil {
		t.Fatal(err)
	}
	static := NewStatic(nil, map[string]string{
		"node.id": "1", "broker.id": "1", "log.retention.hours": "100", "process.roles": "broker,controller",
		"controller.listener.names": "CONTROLLER", "offsets.topic.replication.factor": "1",
		"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
	})
	b := NewBroker(static,
		map[string]string{"log.retention.ms": "8888", "nope.setting": "3", "log.segment.bytes": "2097152", "min.insync.replicas": Auto},
		map[string]string{"log.retention.ms": "7777", "message.max.bytes": "2000000"})
	ours := map[string]string{}
	add := func(section string, entries []Entry) {
		for _, e := range entries {
			ours[section+" "+e.Name] = line(e)
		}
	}
	add("TOPIC t2", b.DescribeTopic(map[string]string{"cleanup.policy": " compact , delete", "retention.bytes": "77"}, 1, nil))
	add("BROKER", b.DescribeBrokerDefault(1, nil))
	add("BROKER 1", b.DescribeBroker(1, nil))
	differs := map[string]string{
		"BROKER 1 log.retention.hours":                      "Kafka shows the default as the value when log.retention.ms is dynamic, though it shows the static one as a synonym",
		"BROKER 1 listeners":                                "of the environment",
		"BROKER 1 controller.quorum.voters":                 "of the environment",
		"BROKER 1 offsets.topic.num.partitions":             "16 in cairn",
		"BROKER 1 transaction.state.log.num.partitions":     "16 in cairn",
		"BROKER 1 offsets.topic.replication.factor":         "the default is auto",
		"BROKER 1 transaction.state.log.replication.factor": "the default is auto",
		"BROKER 1 transaction.state.log.min.isr":            "the default is auto",
	}
	section, compared := "", 0
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if s, ok := strings.CutPrefix(l, "## "); ok {
			section = strings.TrimSpace(s)
			continue
		}
		name, _, _ := strings.Cut(l, "=")
		if strings.HasPrefix(l, "#") || differs[section+" "+name] != "" {
			continue
		}
		compared++
		if got := ours[section+" "+name]; got != l {
			t.Errorf("%s\n got %s\nwant %s", section, got, l)
		}
	}
	if compared < 370 {
		t.Fatalf("only %d settings were compared", compared)
	}
}

func line(e Entry) string {
	sources := map[Source]string{SourceTopic: "DYNAMIC_TOPIC_CONFIG", SourceBroker: "DYNAMIC_BROKER_CONFIG",
		SourceBrokerDefault: "DYNAMIC_DEFAULT_BROKER_CONFIG", SourceStatic: "STATIC_BROKER_CONFIG", SourceDefault: "DEFAULT_CONFIG"}
	text := func(s *string) string {
		if s == nil {
			return "null"
		}
		return *s
	}
	var synonyms []string
	for _, s := range e.Synonyms {
		synonyms = append(synonyms, fmt.Sprintf("%s:%s=%s", sources[s.Source], s.Name, text(s.Value)))
	}
	return fmt.Sprintf("%s=%s %s %s ro=%v sens=%v {%s}", e.Name, text(e.Value), e.Type, sources[e.Source], e.ReadOnly, e.Sensitive, strings.Join(synonyms, " "))
}

// TestTopicView: the typed view follows topic, broker, all brokers, static and default, in this order and in their units.
func TestTopicView(t *testing.T) {
	static := NewStatic(map[string]string{"log.segment.bytes": "16777216"}, map[string]string{"log.retention.hours": "2", "log.roll.hours": "3"})
	retention := func(all, own, topic map[string]string) time.Duration {
		return NewBroker(static, all, own).Topic(topic).Retention
	}
	for _, c := range []struct {
		all, own, topic map[string]string
		want            time.Duration
	}{
		{nil, nil, nil, 2 * time.Hour},
		{map[string]string{"log.retention.ms": "9000"}, nil, nil, 9 * time.Second},
		{map[string]string{"log.retention.ms": "9000"}, map[string]string{"log.retention.ms": "8000"}, nil, 8 * time.Second},
		{nil, map[string]string{"log.retention.ms": "8000"}, map[string]string{"retention.ms": "7000"}, 7 * time.Second},
		{nil, map[string]string{"log.retention.ms": "rubbish"}, map[string]string{"retention.ms": "x"}, 2 * time.Hour},
		{nil, map[string]string{"log.retention.ms": "-1"}, nil, -1},
	} {
		if got := retention(c.all, c.own, c.topic); got != c.want {
			t.Errorf("%v: retention %v, want %v", c, got, c.want)
		}
	}
	v := NewBroker(static, nil, nil).Topic(map[string]string{"cleanup.policy": "compact", "cairn.durability": "replicated", "max.compaction.lag.ms": "9223372036854775807"})
	if v.SegmentBytes != 16<<20 || v.SegmentAge != 3*time.Hour || !v.Compact || v.Delete || v.Flushed || v.MaxCompactionLag != 1<<63-1 {
		t.Errorf("%+v", v)
	}
	for replicas, want := range map[int]int{1: 1, 2: 1, 3: 2, 5: 2} {
		if got := v.MinInSyncReplicas(replicas); got != want {
			t.Errorf("min.insync.replicas=auto of %d replicas is %d, want %d", replicas, got, want)
		}
	}
	if CheckDurability(NewBroker(static, nil, nil).Topic(nil)) != nil {
		t.Error("the defaults are refused")
	}
}

// TestShared: a topic without overrides shares one view.
func TestShared(t *testing.T) {
	b := NewBroker(NewStatic(nil, nil), nil, nil)
	if b.Topic(nil) != b.Topic(map[string]string{}) {
		t.Error("topics without overrides do not share their settings")
	}
}

// TestDefaultsAreValid: every default passes its own validator, and comes out as it is written.
func TestDefaultsAreValid(t *testing.T) {
	for _, m := range []map[string]*Definition{topicDefinitions, brokerDefinitions} {
		for name, d := range m {
			if d.Null || d.Default == "" {
				continue
			}
			p, err := d.accept(d.Default)
			if err != nil || d.format(p) != d.Default {
				t.Errorf("%s: default %q: %q, %v", name, d.Default, d.format(p), err)
			}
			for _, s := range d.Synonyms {
				if brokerDefinitions[s] == nil {
					t.Errorf("%s: synonym %s is no broker setting", name, s)
				}
			}
		}
	}
	for _, name := range []string{"min.insync.replicas", "unclean.leader.election.enable", "cairn.durability", "retention.ms", "segment.bytes"} {
		if topicDefinitions[name].Effect != Effective {
			t.Errorf("%s has no effect", name)
		}
	}
	for _, name := range []string{"flush.messages", "flush.ms"} {
		if topicDefinitions[name].Effect != Conditional {
			t.Errorf("%s touches durability", name)
		}
	}
}

// TestLists: what is appended can be subtracted, whatever stands there.
func TestLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		current := strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(t, "list"), ",")
		value := rapid.SampledFrom([]string{"x", "a", "c"}).Draw(t, "value")
		appended := AppendTo(current, value)
		if !slices.Contains(strings.Split(appended, ","), value) || AppendTo(appended, value) != appended {
			t.Fatalf("%q + %q = %q", current, value, appended)
		}
		if less := SubtractFrom(appended, value); slices.Contains(strings.Split(less, ","), value) {
			t.Fatalf("%q - %q = %q", appended, value, less)
		}
	})
}

// TestDoubles: numbers look as Java prints them.
func TestDoubles(t *testing.T) {
	for f, want := range map[float64]string{0.5: "0.5", 2: "2.0", 1e7: "1.0E7", 1.7976931348623157e308: "1.7976931348623157E308", 0.0001: "1.0E-4", 123456.75: "123456.75", 0: "0.0"} {
		if got := formatDouble(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

// One of Kafka's own topics that is made before all boxes are there comes to what was asked for when they are.
func TestInternalTopicsBeforeAllBrokersAreThere(t *testing.T) {
	b := NewBroker(NewStatic(nil, map[string]string{
		"offsets.topic.replication.factor": "3", "transaction.state.log.replication.factor": "2", "transaction.state.log.min.isr": "2"}), nil, nil)
	for _, c := range []struct {
		kind              string
		brokers, replicas int
		grows             bool
		minimum           string
	}{
		{"offsets.topic", 1, 1, true, ""}, {"offsets.topic", 3, 3, false, ""},
		{"transaction.state.log", 1, 1, true, Auto}, {"transaction.state.log", 3, 2, false, "2"},
	} {
		if _, replicas, grows, overrides := b.InternalTopic(c.kind, c.brokers); replicas != c.replicas || grows != c.grows || overrides["min.insync.replicas"] != c.minimum {
			t.Errorf("%s with %d brokers: %d replicas, grows %v, min.insync.replicas %q", c.kind, c.brokers, replicas, grows, overrides["min.insync.replicas"])
		}
	}
}
