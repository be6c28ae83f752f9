package settings

import (
	"maps"
	"strconv"
	"time"
)

// Static are the settings that do not change while the box runs: what the operator said, and where cairn's defaults
// differ from Kafka's (segments sized to the disk, 16 partitions of internal topics, auto).
type Static struct {
	defaults map[string]string
	operator map[string]string
}

// builtIn are cairn's defaults that differ from Kafka's.
var builtIn = map[string]string{
	"min.insync.replicas":                      Auto,
	"default.replication.factor":               Auto,
	"offsets.topic.num.partitions":             "16",
	"offsets.topic.replication.factor":         Auto,
	"transaction.state.log.num.partitions":     "16",
	"transaction.state.log.replication.factor": Auto,
	"transaction.state.log.min.isr":            Auto,
}

// NewStatic takes broker settings by Kafka's names. defaults are derived from the hardware and described as defaults;
// operator are configured and described as static. Both are copied. Values are expected to have passed CheckStatic;
// one that does not parse is ignored.
func NewStatic(defaults, operator map[string]string) *Static {
	s := &Static{defaults: maps.Clone(builtIn), operator: map[string]string{}}
	maps.Copy(s.defaults, defaults)
	maps.Copy(s.operator, operator)
	return s
}

// DefaultsOnly are the same without what the operator of this box said: what is known of another box.
func (s *Static) DefaultsOnly() *Static { return &Static{defaults: s.defaults} }

// RackAwareSelector is the one class that replica.selector.class may name (KIP-392).
const RackAwareSelector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"

// CheckStatic validates what an operator says about broker settings, by Kafka's names.
func CheckStatic(values map[string]string) error {
	for _, name := range sortedKeys(values) {
		d, ok := brokerDefinitions[name]
		if !ok {
			return &Invalid{Name: name, text: "Unknown broker config name: " + name}
		}
		if values[name] == Auto && mayBeAuto(name) {
			continue
		}
		if _, err := d.accept(values[name]); err != nil {
			return err
		}
	}
	if class := values["replica.selector.class"]; class != "" && class != RackAwareSelector {
		return invalid("replica.selector.class", class, "the only one there is, beside none, is "+RackAwareSelector)
	}
	return CheckDurability(NewBroker(NewStatic(nil, values), nil, nil).Topic(nil))
}

// mayBeAuto reports whether a setting takes "auto".
func mayBeAuto(name string) bool { return builtIn[name] == Auto }

// Broker are the settings of one broker as they are now. It is immutable.
type Broker struct {
	static   *Static
	all, own map[string]string
	defaults *Topic // a topic without overrides
}

// NewBroker joins static and dynamic settings: all are those of every broker, own those of this one. The maps are kept
// and must not change.
func NewBroker(static *Static, all, own map[string]string) *Broker {
	b := &Broker{static: static, all: all, own: own}
	b.defaults = b.topic(nil)
	return b
}

// standard is the default of a setting; not ok when it is null.
func (b *Broker) standard(name string) (value string, source Source, ok bool) {
	if v, ok := b.static.defaults[name]; ok {
		return v, SourceDefault, true
	}
	d := brokerDefinitions[name]
	if d == nil || d.Null {
		return "", SourceDefault, false
	}
	return d.Default, SourceDefault, true
}

// value is the strongest value of a setting that parses. null is one without a value.
func (b *Broker) value(name string) parsed {
	d := brokerDefinitions[name]
	if d == nil {
		panic("settings: no broker setting " + name)
	}
	for _, from := range []map[string]string{b.own, b.all, b.static.operator, b.static.defaults} {
		if v, ok := from[name]; ok {
			if v == Auto && mayBeAuto(name) {
				return parsed{}
			}
			if p, err := d.accept(v); err == nil {
				return p
			}
		}
	}
	if d.Null {
		return parsed{null: true}
	}
	p, _ := d.parse(d.Default)
	return p
}

// Int is a broker setting of an integer type; 0 stands for auto and for null. The name must exist.
func (b *Broker) Int(name string) int64 { return b.value(name).number }

// Bool is a broker setting that is true or false. The name must exist.
func (b *Broker) Bool(name string) bool { return b.value(name).truth }

// Real is a broker setting that is a number with a fraction. The name must exist.
func (b *Broker) Real(name string) float64 { return b.value(name).real }

// Text is a broker setting as a string, empty for null. The name must exist.
func (b *Broker) Text(name string) string {
	if p := b.value(name); !p.null {
		return brokerDefinitions[name].format(p)
	}
	return ""
}

// Milliseconds is a broker setting in milliseconds; negative values come as -1. The name must exist.
func (b *Broker) Milliseconds(name string) time.Duration { return milliseconds(b.Int(name)) }

// ReplicationFactor is default.replication.factor on a cluster of that many brokers; auto says that it was chosen.
func (b *Broker) ReplicationFactor(brokers int) (factor int, auto bool) {
	if n := b.Int("default.replication.factor"); n > 0 {
		return int(n), false
	}
	return AutoReplication(brokers), true
}

// AutoReplication is what replication.factor=auto comes to: at most three, and one at least.
func AutoReplication(brokers int) int { return max(min(brokers, 3), 1) }

// autoMinISR is what min.insync.replicas=auto comes to: a write survives the loss of one of three replicas, and a topic
// of two does not stop when one is lost.
func autoMinISR(replicas int) int {
	if replicas >= 3 {
		return 2
	}
	return 1
}

// InternalTopic gives the partitions, replication factor and overrides with which one of Kafka's own topics is created.
// kind is the prefix of its settings: "offsets.topic" or "transaction.state.log".
func (b *Broker) InternalTopic(kind string, brokers int) (partitions, replicas int, auto bool, overrides map[string]string) {
	partitions = int(b.Int(kind + ".num.partitions"))
	replicas = int(b.Int(kind + ".replication.factor"))
	if auto = replicas == 0; auto {
		replicas = AutoReplication(brokers)
	}
	if most := max(brokers, 1); replicas > most { // Kafka refuses until there are enough; here it grows as they come
		replicas, auto = most, true
	}
	overrides = map[string]string{
		"cleanup.policy":   "compact",
		"compression.type": "producer",
		"segment.bytes":    strconv.FormatInt(b.Int(kind+".segment.bytes"), 10),
	}
	if kind == "transaction.state.log" {
		overrides["unclean.leader.election.enable"] = "false"
		if n := b.Int("transaction.state.log.min.isr"); n > 0 {
			if overrides["min.insync.replicas"] = strconv.FormatInt(n, 10); n > int64(replicas) {
				overrides["min.insync.replicas"] = Auto
			}
		}
	}
	return partitions, replicas, auto, overrides
}
