// Package topics owns the log directories of a box: it compares what the catalog says this box holds with what is open
// and on disk, and opens, creates, leads, retains, deletes and sets aside. It is a mailbox and a Step; opening, which
// reads the disk, runs off the owner, a bounded number at a time.
//
// No box acts on an old catalog: until Start, which the node calls after a read index, nothing is opened, deleted or
// led. A directory whose topic id does not match is set aside and kept. A replica whose log directory is not there is
// offline; only one that was never there starts empty, or one for which the catalog names another log directory than before: it is closed
// where it is and begins anew there. One that the catalog names none for stays where it is found, and the box says where (report.go). What is
// offline is told to the cluster, which has others lead; a log that is damaged or lost is begun anew from its leader when the catalog says
// that it is neither in sync nor eligible.
//
// The package must not decide who leads (the controller does) or know the wire.
package topics
