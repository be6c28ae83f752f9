package settings

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Type is a setting's type, with DescribeConfigs' numbers (DescribeConfigsResponse.ConfigType).
type Type int8

// The types.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
	Unknown  Type = 0
)

var typeNames = map[string]Type{
	"BOOLEAN": Boolean, "STRING": String, "INT": Int, "SHORT": Short, "LONG": Long, "DOUBLE": Double, "LIST": List,
	"CLASS": Class, "PASSWORD": Password,
}

// String is Kafka's name of the type, as its error texts have it.
func (t Type) String() string {
	for name, v := range typeNames {
		if v == t {
			return name
		}
	}
	return "UNKNOWN"
}

// Mode says whether and how a broker setting can change while the broker runs.
type Mode int8

// The modes.
const (
	ReadOnly    Mode = iota // only at start
	PerBroker               // dynamic, for one broker
	ClusterWide             // dynamic, for one broker or for all
)

// Effect says what a setting does in cairn.
type Effect int8

// The effects.
const (
	NoEffect    Effect = iota // accepted and described, and does nothing yet or ever
	Effective                 // does what Kafka's documentation says, or what Doc says where they differ
	Conditional               // refused unless what it asks for holds; touches durability
)

// Definition is one setting.
type Definition struct {
	Name    string
	Type    Type
	Default string
	Null    bool // the default is null
	Mode    Mode
	Effect  Effect
	Doc     string
	// Synonyms of a topic setting are the broker settings that it falls back to, the strongest first.
	Synonyms []string
	check    validator
}

// Sensitive reports whether the value is never shown.
func (d *Definition) Sensitive() bool { return d.Type == Password }

// The tables hold Kafka's facts, one setting a line: name, type, default, valid values, and for topics the synonyms,
// for brokers the mode.
//
//go:embed kafka_topic.tsv
var topicTable string

//go:embed kafka_broker.tsv
var brokerTable string

var (
	topicDefinitions  = load(topicTable, cairnTopicTable, topicNotes, true)
	brokerDefinitions = load(brokerTable, cairnBrokerTable, brokerNotes, false)
	topicNames        = slices.Sorted(maps.Keys(topicDefinitions))
	brokerNames       = slices.Sorted(maps.Keys(brokerDefinitions))
)

// TopicDefinition finds a topic setting.
func TopicDefinition(name string) (*Definition, bool) {
	d, ok := topicDefinitions[name]
	return d, ok
}

// BrokerDefinition finds a broker setting.
func BrokerDefinition(name string) (*Definition, bool) {
	d, ok := brokerDefinitions[name]
	return d, ok
}

// TopicNames are all topic settings, sorted. The slice is shared.
func TopicNames() []string { return topicNames }

// BrokerNames are all broker settings, sorted. The slice is shared.
func BrokerNames() []string { return brokerNames }

// load reads a table of Kafka's and one of ours, and joins what we say about the settings. A mistake in them is found
// by the first test that imports the package.
func load(kafka, ours string, notes map[string]note, topic bool) map[string]*Definition {
	m := map[string]*Definition{}
	for line := range strings.Lines(kafka + ours) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 5 || typeNames[f[1]] == Unknown {
			panic(fmt.Sprintf("settings: table line %q", line))
		}
		d := &Definition{Name: f[0], Type: typeNames[f[1]], Default: f[2], check: parseValidator(f[3])}
		if f[2] == "<null>" {
			d.Default, d.Null = "", true
		}
		if topic {
			d.Mode = ClusterWide
			if s := strings.TrimSuffix(f[4], ","); s != "" {
				d.Synonyms = strings.Split(s, ",")
			}
		} else {
			d.Mode = map[string]Mode{"read-only": ReadOnly, "per-broker": PerBroker, "cluster-wide": ClusterWide}[f[4]]
		}
		d.Effect, d.Doc = notes[d.Name].effect, notes[d.Name].doc
		if d.Doc == "" {
			d.Doc = "A setting of Apache Kafka. It has no effect in cairn."
		}
		m[d.Name] = d
	}
	for name := range notes {
		if m[name] == nil {
			panic("settings: note about unknown setting " + name)
		}
	}
	return m
}

// brokerSynonyms are the names that set the same thing as a broker setting, the strongest first
// (DynamicBrokerConfig.brokerConfigSynonyms).
func brokerSynonyms(name string) []string {
	switch name {
	case "log.roll.ms", "log.roll.hours":
		return []string{"log.roll.ms", "log.roll.hours"}
	case "log.roll.jitter.ms", "log.roll.jitter.hours":
		return []string{"log.roll.jitter.ms", "log.roll.jitter.hours"}
	case "log.flush.interval.ms":
		return []string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"}
	case "log.retention.ms", "log.retention.minutes", "log.retention.hours":
		return []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"}
	}
	return []string{name}
}

// unitFactor turns a synonym's value into the unit of its topic setting (ConfigSynonym's converters).
func unitFactor(name string) int64 {
	switch name {
	case "log.roll.hours", "log.roll.jitter.hours", "log.retention.hours":
		return 3_600_000
	case "log.retention.minutes":
		return 60_000
	}
	return 1
}
