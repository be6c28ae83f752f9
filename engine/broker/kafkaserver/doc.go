// Package kafkaserver speaks the Kafka protocol on sockets. It takes frames apart, checks them before anything is
// decoded, calls one handler per API, and sends the answers of a connection back in the order of its requests. The
// bodies of data leave as file spans (platform/sockio); nothing here opens a record batch.
//
// It exists so that no other room knows what a Kafka client looks like on the wire. It keeps no fact: topics come from
// the Catalog, records from the Replicas, groups from Groups, and changes go through the Controller. Those interfaces
// are declared here, engine/node gives the real ones and the tests give fakes.
//
// Goroutines: one per listener that accepts, and two per connection. The first reads frames and runs handlers; the
// second (the responder) writes answers that come later and runs continuations of parked fetches. A handler may answer
// at once or later from any goroutine, exactly once. Owners call back into this package; those callbacks never block.
//
// It must not import the ensemble wing, touch a disk, mutate a partition, or hold memory that is not counted against
// limits.Kafka.
//
// Files: one per API, numbered by its key. server.go (listeners, limits, stop), conn.go (the two goroutines, with
// intake.go: frame to request, and send.go: answers in order), request.go (what a handler sees), budget.go (memory), table.go (which APIs at which versions), deps*.go (what is needed of other rooms),
// codes.go and errors.go (Kafka's error codes, and which error becomes which).
package kafkaserver
