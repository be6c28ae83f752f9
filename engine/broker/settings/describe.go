package settings

import "strings"

// Source says where a value comes from, with DescribeConfigs' numbers (DescribeConfigsResponse.ConfigSource).
type Source int8

// The sources, the strongest first.
const (
	SourceTopic         Source = 1
	SourceBroker        Source = 2
	SourceBrokerDefault Source = 3
	SourceStatic        Source = 4
	SourceDefault       Source = 5
)

// Synonym is one place that says something about a setting.
type Synonym struct {
	Name   string
	Value  *string // nil for a sensitive one
	Source Source
}

// Entry is one described setting.
type Entry struct {
	Name      string
	Value     *string // nil for null and for a sensitive one
	Source    Source
	Type      Type
	ReadOnly  bool
	Sensitive bool
	Synonyms  []Synonym // the strongest first
	Doc       string
	Effect    Effect
}

// DescribeTopic describes every topic setting, those of the names in only if it is not empty, sorted by name. replicas
// is the topic's replication factor, by which auto becomes a number.
func (b *Broker) DescribeTopic(overrides map[string]string, replicas int, only []string) []Entry {
	var entries []Entry
	for _, name := range filter(topicNames, only) {
		d := topicDefinitions[name]
		e := Entry{Name: name, Source: SourceDefault, Type: d.Type, Doc: d.Doc, Effect: d.Effect}
		text := d.format(b.topicValue(overrides, name))
		if name == "min.insync.replicas" && text == "0" {
			text = itoa(autoMinISR(replicas))
		}
		e.Value = &text
		if _, ok := overrides[name]; ok {
			e.Synonyms = append(e.Synonyms, Synonym{Name: name, Value: &text, Source: SourceTopic})
		}
		if len(d.Synonyms) > 0 {
			e.Synonyms = append(e.Synonyms, b.synonyms(d.Synonyms[0], replicas)...)
		}
		if len(e.Synonyms) > 0 {
			e.Source = e.Synonyms[0].Source
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeBroker describes every setting of this broker and those that were set without being known; sorted by name.
func (b *Broker) DescribeBroker(brokers int, only []string) []Entry {
	names := append([]string(nil), brokerNames...)
	for _, m := range []map[string]string{b.own, b.all} {
		for _, name := range sortedKeys(m) {
			if brokerDefinitions[name] == nil && !contains(names, name) {
				names = append(names, name)
			}
		}
	}
	var entries []Entry
	for _, name := range filter(names, only) {
		entries = append(entries, b.describe(name, brokers))
	}
	return entries
}

func (b *Broker) describe(name string, brokers int) Entry {
	d, known := brokerDefinitions[name]
	if !known {
		return Entry{Name: name, Sensitive: true, ReadOnly: true, Source: sourceOf(b.synonyms(name, brokers)), Synonyms: hide(b.synonyms(name, brokers))}
	}
	e := Entry{
		Name: name, Source: SourceDefault, Type: d.Type, ReadOnly: d.Mode == ReadOnly, Sensitive: d.Sensitive(), Doc: d.Doc,
		Effect: d.Effect, Synonyms: b.synonyms(name, brokers),
	}
	if p := b.value(name); !p.null && !e.Sensitive {
		text := resolveAuto(name, d.format(p), brokers)
		e.Value = &text
	}
	if e.Sensitive {
		e.Synonyms = hide(e.Synonyms)
	}
	e.Source = sourceOf(e.Synonyms)
	return e
}

// DescribeBrokerDefault describes the dynamic settings of all brokers, sorted by name, as Kafka does: only what is set.
func (b *Broker) DescribeBrokerDefault(brokers int, only []string) []Entry {
	var entries []Entry
	for _, name := range filter(sortedKeys(b.all), only) {
		value := resolveAuto(name, b.all[name], brokers)
		d, known := brokerDefinitions[name]
		e := Entry{Name: name, Source: SourceBrokerDefault, Sensitive: !known, ReadOnly: !known}
		if known {
			e.Type, e.Doc, e.Effect = d.Type, d.Doc, d.Effect
			e.ReadOnly, e.Sensitive = d.Mode == ReadOnly, d.Sensitive()
		}
		e.Synonyms = []Synonym{{Name: name, Value: &value, Source: SourceBrokerDefault}}
		if e.Sensitive {
			e.Synonyms = hide(e.Synonyms)
		} else {
			e.Value = &value
		}
		entries = append(entries, e)
	}
	return entries
}

// synonyms lists everything that is said about a broker setting, from the first that is said under its own name on: by
// level, and within a level by the strength of the names (ConfigHelper.configSynonyms). size is what auto depends on.
func (b *Broker) synonyms(name string, size int) []Synonym {
	names := brokerSynonyms(name)
	var found []Synonym
	level := func(m map[string]string, source Source) {
		for _, n := range names {
			if v, ok := m[n]; ok {
				v = resolveAuto(n, v, size)
				found = append(found, Synonym{Name: n, Value: &v, Source: source})
			}
		}
	}
	level(b.own, SourceBroker)
	level(b.all, SourceBrokerDefault)
	level(b.static.operator, SourceStatic)
	for _, n := range names {
		if v, source, ok := b.standard(n); ok {
			v = resolveAuto(n, v, size)
			found = append(found, Synonym{Name: n, Value: &v, Source: source})
		}
	}
	for i, s := range found {
		if s.Name == name {
			return found[i:]
		}
	}
	return nil
}

// resolveAuto shows tools a number where a setting is auto: several of them parse it and fail otherwise. size is the
// number of replicas for min.insync.replicas and the number of brokers for replication factors.
func resolveAuto(name, value string, size int) string {
	if !mayBeAuto(name) || (value != Auto && value != "0") {
		return value
	}
	switch {
	case name == "transaction.state.log.min.isr":
		return itoa(autoMinISR(AutoReplication(size)))
	case strings.HasSuffix(name, "replication.factor"):
		return itoa(AutoReplication(size))
	}
	return itoa(autoMinISR(size))
}

func sourceOf(s []Synonym) Source {
	if len(s) == 0 {
		return SourceDefault
	}
	return s[0].Source
}

func hide(s []Synonym) []Synonym {
	for i := range s {
		s[i].Value = nil
	}
	return s
}

func filter(names, only []string) []string {
	if len(only) == 0 {
		return names
	}
	var kept []string
	for _, n := range names {
		if contains(only, n) {
			kept = append(kept, n)
		}
	}
	return kept
}
