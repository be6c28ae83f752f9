// Package limits names every maximum of a box: frames, queues, pools, caches, connections, sessions, znode bytes,
// partitions, groups, producer ids. They are derived once from the memory that the box may use, checked for their
// relations, and handed to the rooms in their Configs. It is a vocabulary: no I/O, no goroutine, and it reads no host.
package limits
