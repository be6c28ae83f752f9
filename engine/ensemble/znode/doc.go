// Package znode is ZooKeeper's tree as a pure, deterministic state machine: the nodes, their rules (those of Apache
// ZooKeeper 3.9.5), the sessions and the ephemerals that they own. One replicated Entry is one request, stamped by the
// leader with its time and with who asked; Apply validates it against the tree and changes the tree, and every box that
// applies the same entries has the same tree, the same results and the same changes in the same order.
//
// Every entry takes one zxid, also one that fails. A session's id is made from the zxid that created it. Nothing here
// reads a clock, a file or the network, starts a goroutine or takes a lock: the owner (the ensemble) applies under its
// write lock and reads, and cuts snapshots, under its read lock.
//
// # Layout
//
// A million nodes must fit a small board, so that the tables hold no pointers: nodes are fixed-size records in chunks,
// named by a 32-bit id, linked to parent, first child and siblings by id. One hash table maps (parent, name) to an id;
// no name is stored twice and no node has a child map. The only pointer of a node is one immutable string that holds
// its name and its data. Because that string is never written to, a reader may keep what it was given after it let go of
// the lock, and a snapshot shares it with the live tree. ACLs are interned.
//
// # Snapshots
//
// Cut marks the present state. From then on the first change to a node saves what it was, until the cut has passed the
// node; the cut is read in bounded chunks between applied entries, and is exact at the entry at which it was made.
package znode
