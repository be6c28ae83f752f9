package zoocfg

import (
	"math"
	"time"
)

// ConnectionThrottle is zookeeper.connection_throttle_*, as zkserver.ConnectionThrottle takes it.
type ConnectionThrottle struct {
	// TokensMax is connection_throttle_tokens; 0 is off. With weights it counts new sessions, and so does FillCount.
	TokensMax int
	// FillTime and FillCount are connection_throttle_fill_time and _fill_count.
	FillTime  time.Duration
	FillCount int
	// FreezeTime, DropIncrease, DropDecrease and DecreaseRatio are connection_throttle_freeze_time, _drop_increase,
	// _drop_decrease and _decrease_ratio; a negative FreezeTime is off.
	FreezeTime                 time.Duration
	DropIncrease, DropDecrease float64
	DecreaseRatio              float64
	// CreateWeight is connection_throttle_global_session_weight, or _local_session_weight where sessions are local, and
	// RenewWeight _renew_session_weight: 1 each unless connection_throttle_weight_enabled.
	CreateWeight, RenewWeight int
}

// RequestThrottle is what zkserver.RequestThrottle takes.
type RequestThrottle struct {
	// RequestsMax is zookeeper.request_throttle_max_requests; 0 is off.
	RequestsMax int
	// OpWaitMax is zookeeper.throttled_op_wait_time; 0 is off.
	OpWaitMax time.Duration
	// StaleLatencyCheck is zookeeper.request_stale_latency_check, which ZooKeeper heeds where request_throttle_max_requests is
	// set and request_throttle_drop_stale left at true.
	StaleLatencyCheck bool
}

// throttleProperties are the properties that the two are made of, without their "zookeeper." prefix.
var throttleProperties = []string{
	"connection_throttle_tokens", "connection_throttle_fill_time", "connection_throttle_fill_count", "connection_throttle_freeze_time",
	"connection_throttle_drop_increase", "connection_throttle_drop_decrease", "connection_throttle_decrease_ratio",
	"connection_throttle_weight_enabled", "connection_throttle_global_session_weight", "connection_throttle_local_session_weight",
	"connection_throttle_renew_session_weight",
	"request_throttle_max_requests", "request_throttle_drop_stale", "request_stale_latency_check", "throttled_op_wait_time",
}

func (l *loader) requestThrottle() RequestThrottle {
	p := l.c.Properties
	t := RequestThrottle{
		RequestsMax: max(p.Int(propertyPrefix+"request_throttle_max_requests", 0), 0),
		OpWaitMax:   time.Duration(max(p.Int(propertyPrefix+"throttled_op_wait_time", 0), 0)) * time.Millisecond,
	}
	t.StaleLatencyCheck = t.RequestsMax > 0 && p.Bool(propertyPrefix+"request_throttle_drop_stale", true) &&
		p.Bool(propertyPrefix+"request_stale_latency_check", false)
	return t
}

// connectionThrottle is what BlueThrottle makes of its properties. Where that would divide by zero or never let anybody
// in, the default is taken, and said.
func (l *loader) connectionThrottle() ConnectionThrottle {
	p := l.c.Properties
	key := func(name string) string { return propertyPrefix + "connection_throttle_" + name }
	positive := func(name string, fallback int) int {
		n := p.Int(key(name), fallback)
		if n < 1 {
			l.warn("Invalid connection_throttle_%s %d. It should be larger than 0. Setting to %d", name, n, fallback)
			return fallback
		}
		return n
	}
	t := ConnectionThrottle{
		TokensMax: max(p.Int(key("tokens"), 0), 0), FillCount: positive("fill_count", 1),
		FillTime:      time.Duration(positive("fill_time", 1)) * time.Millisecond,
		FreezeTime:    time.Duration(p.Int(key("freeze_time"), -1)) * time.Millisecond,
		DropIncrease:  p.Float(key("drop_increase"), 0.02),
		DropDecrease:  p.Float(key("drop_decrease"), 0.002),
		DecreaseRatio: p.Float(key("decrease_ratio"), 0),
		CreateWeight:  1, RenewWeight: 1,
	}
	if !p.Bool(key("weight_enabled"), false) {
		return t
	}
	local := positive("local_session_weight", 1)
	weight := func(name string, fallback int) int {
		n := positive(name, fallback)
		if n < local {
			l.warn("connection_throttle_%s %d is less than the local session weight; %d is used", name, n, local)
			return local
		}
		return n
	}
	global := weight("global_session_weight", 3)
	t.CreateWeight, t.RenewWeight = global, weight("renew_session_weight", 2)
	if l.c.LocalSessions {
		t.CreateWeight = local
	}
	t.TokensMax, t.FillCount = product(t.TokensMax, global), product(t.FillCount, global)
	return t
}

// product is a*b, as large as a Java int at the most.
func product(a, b int) int { return int(min(int64(a)*int64(b), math.MaxInt32)) }
