// Package remote asks the brokers of other boxes, in Kafka's own protocol, on connections that the link opens: a follower's
// Fetch with an incremental session (KIP-227), so that a partition with nothing new is not named again. It carries what
// the fetcher room asks.
//
// For each broker that is asked there is a goroutine that dials and writes, and one that reads, and two more while it is asked
// about replicas that are not in sync; they end when nobody asks any more, and with the package's Close. The package must not decide what is asked, nor retry: it says what failed.
package remote
