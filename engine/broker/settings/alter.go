package settings

import (
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// Appendable reports whether a setting takes APPEND and SUBTRACT: whether it is a known list.
func Appendable(name string, topic bool) bool {
	definitions := brokerDefinitions
	if topic {
		definitions = topicDefinitions
	}
	d := definitions[name]
	return d != nil && d.Type == List
}

// AppendTo and SubtractFrom change a list that is written with commas; current is what is set now, or else the default
// (ConfigurationControlManager.getParts).
func AppendTo(current, values string) string {
	list := split(current)
	for _, v := range strings.Split(values, ",") {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return strings.Join(list, ",")
}

// SubtractFrom removes values from a list, each once.
func SubtractFrom(current, values string) string {
	list := split(current)
	for _, v := range strings.Split(values, ",") {
		if i := slices.Index(list, v); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	return strings.Join(list, ",")
}

func split(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(v string) bool { return v == "" })
}

// Default is the default of a setting, for APPEND and SUBTRACT.
func Default(name string, topic bool) string {
	definitions := brokerDefinitions
	if topic {
		definitions = topicDefinitions
	}
	if d := definitions[name]; d != nil {
		return d.Default
	}
	return ""
}

// ValidateBroker checks all dynamic settings that one broker (perBroker) or all brokers are to have, joined with the
// others of b (DynamicBrokerConfig.validateConfigs). Names that are nobody's are let through, as Kafka lets them.
// min.insync.replicas belongs to the whole cluster and stays set, because who is eligible to lead depends on it (KIP-966).
// Settings of single listeners are refused: cairn has none that could change while running.
func (b *Broker) ValidateBroker(values map[string]string, perBroker bool) error {
	var readOnly, security, single []string
	for _, name := range sortedKeys(values) {
		d := brokerDefinitions[name]
		switch {
		case strings.HasPrefix(name, "listener.name."):
			return &Invalid{Name: name, text: "Settings of single listeners cannot be changed while cairn runs: " + name}
		case d == nil:
		case d.Mode == ReadOnly:
			readOnly = append(readOnly, name)
		case strings.HasPrefix(name, "ssl."):
			security = append(security, name)
		case d.Mode == PerBroker && !perBroker:
			single = append(single, name)
		case d.Mode == PerBroker:
			return &Invalid{Name: name, text: "This setting cannot be changed while cairn runs: " + name}
		}
	}
	for _, refused := range []struct {
		names []string
		text  string
	}{
		{readOnly, "Cannot update these configs dynamically"},
		{security, "These security configs can be dynamically updated only per-listener using the listener prefix"},
	} {
		if len(refused.names) > 0 {
			return &Invalid{Name: refused.names[0], text: refused.text + ": [" + strings.Join(refused.names, ", ") + "]"}
		}
	}
	for _, name := range sortedKeys(values) {
		if d := brokerDefinitions[name]; d != nil && (values[name] != Auto || !mayBeAuto(name)) {
			if _, err := d.accept(values[name]); err != nil {
				return err
			}
		}
	}
	if len(single) > 0 {
		return &Invalid{Name: single[0], text: "Cannot update these configs at default cluster level, broker id must be specified: [" +
			strings.Join(single, ", ") + "]"}
	}
	if _, set := values["min.insync.replicas"]; perBroker && set {
		return &Invalid{Name: "min.insync.replicas", config: true, text: "Broker-level min.insync.replicas cannot be altered while ELR is enabled."}
	}
	if _, was := b.all["min.insync.replicas"]; was && !perBroker && values["min.insync.replicas"] == "" {
		return &Invalid{Name: "min.insync.replicas", config: true, text: "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."}
	}
	joined := NewBroker(b.static, values, b.own)
	if perBroker {
		joined = NewBroker(b.static, b.all, values)
	}
	return CheckDurability(joined.Topic(nil))
}
