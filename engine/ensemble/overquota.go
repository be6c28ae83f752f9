package ensemble

import (
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/znode"
)

// overQuotaEvery is how often an exceeded quota is logged at the most; every one is counted.
const overQuotaEvery = time.Second

// overQuota is what a leader has to log of exceeded quotas.
type overQuota struct {
	last *znode.OverQuota // nil: nothing
	said time.Duration    // when it was logged last
}

// noteOverQuota counts a quota that an entry exceeds, or would. The write lock is held: it is logged later.
func (o *owner) noteOverQuota(over *znode.OverQuota) {
	if over == nil || o.role != raft.StateLeader {
		return
	}
	o.quotas.last = over
	kind := "soft"
	if over.Hard {
		kind = "hard"
	}
	o.e.deps.Observer.Metrics.Counter("cairn_ensemble_quota_exceeded_total", "limit", kind).Inc()
}

// logOverQuota logs the last of them, unless one was logged a moment ago.
func (o *owner) logOverQuota() {
	over := o.quotas.last
	if o.quotas.last = nil; over == nil || o.quotas.said != 0 && o.now.Mono-o.quotas.said < overQuotaEvery {
		return
	}
	o.quotas.said = o.now.Mono
	o.e.deps.Observer.Log.Warn("quota exceeded", "path", over.Path, "limit", over.Limit, "most", over.Most, "wanted", over.Want, "refused", over.Hard)
}
