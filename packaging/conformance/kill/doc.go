// Command kill is the suite that kills cairn with kill -9 at random moments while an idempotent producer, a consumer group
// and a ZooKeeper client work, and then asks whether all that was acknowledged is there: every record exactly once and in
// order at its acknowledged offset, every committed offset, every znode with its acknowledged version.
//
// What was acknowledged is in the Ledger, in this program's memory and in a file beside the data. Three clients run on
// goroutines of their own for the whole time and live through every kill; one producer is new in every round. The main
// goroutine kills, restarts and checks. It ends only the process that it started, and its exit status says whether
// anything was lost.
//
// kill -9 leaves the kernel's page cache: what a power cut would take is not shown here, but in the storage tests on the
// crashable file system.
package main
