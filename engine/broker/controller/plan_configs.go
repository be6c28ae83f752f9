package controller

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/settings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Bounds of what one resource may be given.
const (
	overridesMax     = 500
	overrideBytesMax = 64 << 10
)

// multiFull is no answer: the multi is full before a resource is planned.
var multiFull = &Error{}

// alteration plans AlterConfigs and IncrementalAlterConfigs: each resource as one, all of it or nothing.
type alteration struct {
	req     AlterConfigs
	done    func([]ResourceResult)
	results []ResourceResult
	times   map[resourceKey]int // how often each resource stands in the request
}

type resourceKey struct {
	kind ResourceType
	name string
}

func (a *alteration) step(w *work, f *facts) outcome {
	if a.req.ValidateOnly {
		w = w.trial()
	}
	// A step begins from the first resource again: what an earlier step has planned is either there, and then comes
	// out as no change, or was lost.
	a.results = a.results[:0]
	if a.times == nil {
		a.times = make(map[resourceKey]int, len(a.req.Resources))
		for _, r := range a.req.Resources {
			a.times[resourceKey{r.Type, r.Name}]++
		}
	}
	for _, r := range a.req.Resources {
		if w.full() {
			return again
		}
		err := a.resource(w, r)
		if err == multiFull {
			return again
		}
		a.results = append(a.results, ResourceResult{Type: r.Type, Name: r.Name, Err: err})
	}
	return ready
}

// resource plans one resource; the order of the checks and their texts are Kafka's (ConfigAdminManager,
// ConfigurationControlManager). multiFull says that it must be stepped again.
func (a *alteration) resource(w *work, r ResourceChange) *Error {
	if a.times[resourceKey{r.Type, r.Name}] > 1 {
		return refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
	}
	if err := checkChanges(r.Changes); err != nil {
		return err
	}
	switch r.Type {
	case TopicResource:
		return a.topic(w, r)
	case BrokerResource:
		return a.broker(w, r)
	case BrokerLoggerResource:
		return refuse(kerr.InvalidRequest, "cairn's log level is set with --log-level; it has no loggers of its own names.")
	case ClientMetricsResource, GroupResource:
		return refuse(kerr.InvalidRequest, "cairn keeps no settings of this kind of resource yet: type %d.", r.Type)
	}
	return refuse(kerr.InvalidRequest, "Unknown resource type %d", r.Type)
}

func checkChanges(changes []ConfigChange) *Error {
	var null []string
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.Name] {
			return refuse(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[c.Name] = true
		if c.Op < SetConfig || c.Op > SubtractConfig {
			return refuse(kerr.InvalidRequest, "Unknown operations type %d", c.Op)
		}
		if c.Op != DeleteConfig && c.Value == nil {
			null = append(null, c.Name)
		}
	}
	if len(null) > 0 {
		return refuse(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(null, ", "))
	}
	return nil
}

// apply gives the settings that a resource will have.
func (a *alteration) apply(current map[string]string, changes []ConfigChange, topic bool) (map[string]string, *Error) {
	next := map[string]string{}
	if a.req.Incremental {
		maps.Copy(next, current)
	}
	for _, c := range changes {
		switch c.Op {
		case SetConfig:
			next[c.Name] = *c.Value
		case DeleteConfig:
			delete(next, c.Name)
		case AppendConfig, SubtractConfig:
			if !settings.Appendable(c.Name, topic) {
				return nil, notAppendable(c, topic)
			}
			value, ok := next[c.Name]
			if !ok {
				value = settings.Default(c.Name, topic)
			}
			if c.Op == AppendConfig {
				next[c.Name] = settings.AppendTo(value, *c.Value)
			} else {
				next[c.Name] = settings.SubtractFrom(value, *c.Value)
			}
		}
	}
	if err := checkSize(next); err != nil {
		return nil, err
	}
	return next, nil
}

// checkSize bounds what one resource may be given: it is one znode.
func checkSize(overrides map[string]string) *Error {
	size := 0
	for name, value := range overrides {
		size += len(name) + len(value)
	}
	if len(overrides) > overridesMax || size > overrideBytesMax {
		return refuse(kerr.PolicyViolation, "%d settings of %d bytes: one resource may have %d of %d bytes", len(overrides), size, overridesMax, overrideBytesMax)
	}
	return nil
}

func notAppendable(c ConfigChange, topic bool) *Error {
	op := map[ConfigOp]string{AppendConfig: "APPEND", SubtractConfig: "SUBTRACT"}[c.Op]
	if topic {
		return refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", op, c.Name)
	}
	return refuse(kerr.InvalidConfig, "Config value %s is not allowed for config key: %s", strings.ToLower(op), c.Name)
}

func (a *alteration) topic(w *work, r ResourceChange) *Error {
	if r.Name == "" {
		return refuse(kerr.InvalidRequest, "Default topic resources are not allowed.")
	}
	if reason := invalidName(r.Name); reason != "" {
		return refuse(kerr.InvalidTopicException, "Topic name is invalid: %s", reason)
	}
	next, refused := a.apply(w.now.TopicOverrides(r.Name), r.Changes, true)
	if refused != nil {
		return refused
	}
	if err := w.now.Settings.ValidateTopic(next); err != nil {
		return refuse(kerr.InvalidConfig, "%v", err)
	}
	t := w.now.Topic(r.Name)
	if t == nil || t.Deleting {
		return refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
	}
	if maps.Equal(t.Overrides, next) {
		return nil
	}
	op := put(w.now.HasTopicConfig(r.Name), catalog.TopicConfigPath(r.Name), catalog.EncodeConfig(next))
	after := tried(w, op)
	if !endEligible(w, after.Topic(r.Name)) {
		return multiFull
	}
	w.do(op)
	return nil
}

func (a *alteration) broker(w *work, r ResourceChange) *Error {
	path := catalog.DefaultBrokerConfigPath()
	current, exists := w.now.DefaultBrokerOverrides()
	own := w.now.Settings
	if r.Name != "" {
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil || strconv.FormatInt(id, 10) != r.Name { // 01 would be broker 1 once more
			return refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", r.Name)
		}
		if id < 0 {
			return refuse(kerr.InvalidRequest, "Invalid negative broker ID.")
		}
		if w.now.Broker(int32(id)) == nil {
			return refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d, but received %s", w.now.Base().BrokerID, r.Name)
		}
		path = catalog.BrokerConfigPath(int32(id))
		current, exists = w.now.BrokerOverrides(int32(id))
		own = w.now.BrokerSettings(int32(id))
	}
	next, refused := a.apply(current, r.Changes, false)
	if refused != nil {
		return refused
	}
	if err := own.ValidateBroker(next, r.Name != ""); err != nil {
		kind := kerr.InvalidRequest
		if invalid := (*settings.Invalid)(nil); errors.As(err, &invalid) && invalid.Config() {
			kind = kerr.InvalidConfig
		}
		return refuse(kind, "%v", err)
	}
	if maps.Equal(current, next) {
		return nil
	}
	op := put(exists, path, catalog.EncodeConfig(next))
	after := tried(w, op)
	if err := unkept(w.now, after); err != nil {
		return refuse(kerr.InvalidRequest, "%v", err)
	}
	if after.Settings != w.now.Settings {
		for t := range after.Topics() {
			if !endEligible(w, t) {
				return multiFull
			}
		}
	}
	w.do(op)
	return nil
}

// unkept finds a topic whose durability a broker's setting would promise and not keep.
func unkept(before, after *catalog.Snapshot) error {
	if before.Settings == after.Settings {
		return nil
	}
	for t := range after.Topics() {
		if len(t.Overrides) == 0 {
			continue
		}
		if err := settings.CheckDurability(t.Settings); err != nil {
			return fmt.Errorf("topic %s: %w", t.Name, err)
		}
	}
	return nil
}

// tried is the snapshot that an operation will make.
func tried(w *work, op catalog.Op) *catalog.Snapshot {
	trial := w.trial()
	trial.do(op)
	return trial.now
}

// endEligible takes the eligible leaders from the partitions of a topic, as its settings will be, that have enough in-sync replicas
// then, before those are written: with fewer to wait for, a leader acknowledges without them (KIP-966; ReplicationControlManager clears them
// with such a change). It returns false when the multi is full first.
func endEligible(w *work, t *catalog.Topic) bool {
	for i, p := range t.Partitions {
		if len(p.ELR) == 0 || len(p.ISR) < t.Settings.EffectiveMinISR(p.Factor()) {
			continue
		}
		if w.full() {
			return false
		}
		next := p.State()
		next.ELR, next.ControllerEpoch = nil, w.now.ControllerEpoch
		w.do(setState(w.now.Topic(t.Name), int32(i), next))
	}
	return true
}

func (a *alteration) answer() { a.done(a.results) }

func (a *alteration) fail(err *Error) {
	results := make([]ResourceResult, 0, len(a.req.Resources))
	for _, r := range a.req.Resources {
		results = append(results, ResourceResult{Type: r.Type, Name: r.Name, Err: err})
	}
	a.done(results)
}
