// Package quorum is who belongs to an ensemble: ZooKeeper's dynamic configuration as its users read and change it (the
// text of /zookeeper/config, reconfig), the roster that says which raft id and which disk stands for which server, and
// the rule that brings raft's membership from what it is to what the two say, one safe change at a time.
//
// Everything here is pure: texts and sets in, texts and changes out. Nothing is sent, and nobody is asked.
package quorum
