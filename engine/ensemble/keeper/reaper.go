package keeper

import (
	"time"

	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
)

// reaper looks through the tree for containers and TTL nodes whose time has come (ContainerManager). A round begins
// every check interval; it looks at some thousand nodes a step and proposes them in batches, no faster than the maximum
// per minute.
type reaper struct {
	next   time.Duration // of the next step
	round  time.Duration // when the present round began; 0: none is running
	cursor uint32
}

const (
	reapScan  = 8 << 10 // nodes looked at in one step
	reapBatch = 256     // nodes deleted by one entry
)

// step gives at most one entry.
func (r *reaper) step(cfg Config, now clock.Now, tree Tree) *znode.Entry {
	if now.Mono < r.next {
		return nil
	}
	if r.round == 0 {
		r.round = now.Mono
	}
	nowMs := max(now.UnixMilli(), tree.TimeMs())
	most := min(reapBatch, max(1, cfg.ContainersPerMinute/60))
	neverUsedMs := cfg.ContainerNeverUsed.Milliseconds()
	ops, cursor := tree.Reapable(r.cursor, reapScan, most, nowMs, neverUsedMs)
	r.cursor = cursor
	pause := time.Duration(len(ops)) * time.Minute / time.Duration(cfg.ContainersPerMinute)
	if cursor == 0 {
		// A round that took longer than the interval is followed by the next one without a rest.
		r.next = max(r.round+cfg.ContainerCheckInterval, now.Mono+max(pause, time.Millisecond))
		r.round = 0
	} else {
		r.next = now.Mono + pause
	}
	if len(ops) == 0 {
		return nil
	}
	return &znode.Entry{Kind: znode.KindReap, Flags: znode.FlagInternal, Ops: ops, NeverUsedMs: neverUsedMs}
}
