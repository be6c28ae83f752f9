// Package settings is the registry of Kafka's topic and broker settings: names, types, defaults, validators, synonyms,
// and what each of them does in cairn. From it come the checks of every alteration, the answers of DescribeConfigs, and
// the typed views (Topic, Broker) that the rest of the broker acts on.
//
// A setting comes from the first of: the topic, this broker's dynamic settings, all brokers' dynamic settings, what the
// box was started with, the default. Names, units, texts and precedence are those of Kafka 4 (TopicConfig, LogConfig,
// DynamicBrokerConfig, ConfigHelper), because Kafka's own tools print them. A setting without effect is accepted as
// Kafka accepts it and shown as such; one that touches durability is refused where it would not hold.
//
// The package is pure: no I/O, no goroutine, no clock. It must not know of topics or brokers, only of their settings.
package settings
