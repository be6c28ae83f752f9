// Package zkdata reads and writes the files of Apache ZooKeeper 3.8 and 3.9: snapshots (FileSnap) and transaction logs
// (FileTxnLog), and replays the one onto the other as a ZooKeeper does that starts (FileTxnSnapLog, DataTree.processTxn).
// It exists so that trees can move between a ZooKeeper and this ensemble.
//
// A snapshot of ZooKeeper is fuzzy: it was written while the tree went on, so that it may hold the effects of
// transactions behind the zxid of its name. All transactions from there on are replayed, and those that were in the
// snapshot already fail or repeat what is there; the rules of that are ZooKeeper's, to the letter, because versions and
// zxids must come out the same.
//
// The package is pure: it reads streams that it is given, and bounds the memory that hostile ones take. It has no
// goroutine, opens no file, and knows nothing of this ensemble's own tree (package carry joins the two).
package zkdata
