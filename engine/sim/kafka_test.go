package sim

import (
	"testing"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"
	"cairn/engine/node"
)

// Whole boxes with brokers die, lose power, are cut off, stand still and come back, while producers and consumers work: nothing that was
// acknowledged is lost, doubled or out of order, no two boxes lead in one epoch or disagree on a byte, and all replicas are whole when
// it is over.
func TestBrokers(t *testing.T) {
	eachSeed(t, true, func(w *world, total map[string]int) {
		total["acknowledged"] += w.kafka.acks
		total["read"] += w.kafka.reads
		total["consumers restarted"] += w.kafka.restarts
		total["logs cut"] += w.kafka.cutLogs
		total["moves"] += w.kafka.admin.moves
		total["deletions"] += w.kafka.deletions
	})
}

// One seed is one trace with brokers too.
func TestBrokersReplay(t *testing.T) { replays(t, 301, config{seconds: 5, brokers: true}) }

// The three mistakes that a replicated log is lost by are each found, within a few seeds.
func TestBrokerBugsAreFound(t *testing.T) {
	for name, bug := range map[string]func(*node.Adjust){
		"a follower's fetch position moves the high watermark": func(a *node.Adjust) {
			a.Shards = func(c *replica.ShardsConfig) { *c = c.WithBug(t, replica.VouchByPosition) }
		},
		"a restarted leader leads in its old epoch": func(a *node.Adjust) {
			a.Shards = func(c *replica.ShardsConfig) { *c = c.WithBug(t, replica.LeadOldEpochs) }
			a.Catalog = func(b *catalog.Base) { *b = b.WithOldLeaders(t) }
		},
		"a box deletes by a stale catalog": func(a *node.Adjust) { a.StaleCatalog = true },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(401); seed < 401+bugSeeds; seed++ {
				if w := simulate(t, config{seed: seed, seconds: 10, power: true, brokers: true, bug: bug}); w.failure != "" && !w.stuck {
					t.Logf("seed %d: %s", seed, w.failure)
					return
				}
			}
			t.Errorf("%d seeds, and nobody notices", bugSeeds)
		})
	}
}

// bugSeeds are the seeds within which a bug must be found.
const bugSeeds = 40
