// Package broker holds the rooms of the Kafka wing and no code of its own.
//
// Data flows down: kafkaserver → {coordinator, controller, topics, replica} → {group, partition, catalog, settings}
// → compact → seglog → {batch, wire}. An answer comes up once, by a completion that only posts. The wing declares what it needs of
// the tree as catalog.Tree and imports nothing of the ensemble wing; engine/node adapts.
package broker
