package znode

import (
	"strings"

	"cairn/engine/ensemble/jute"
)

// The subtree of the boxes. No client writes there, whoever it authenticated as; below /cairn/secret none reads.
const (
	PathCairn  = "/cairn"
	PathSecret = "/cairn/secret"
)

// within tells whether path is root or lies below it.
func within(path, root string) bool {
	return strings.HasPrefix(path, root) && (len(path) == len(root) || path[len(root)] == '/')
}

// mayNotWrite tells whether a path is one of the boxes' own and a client asks.
func (x *txn) mayNotWrite(path string) bool { return !x.acc.Internal && within(path, PathCairn) }

// hidden tells whether a path may not be seen.
func hidden(path string, who Access) bool { return !who.Internal && within(path, PathSecret) }

// MayRead tells whether somebody may read the node at path that has these ACLs. It is asked for every watch event too
// (Change.ACL): nobody is told of what it may not read.
func MayRead(path string, acls []jute.ACL, who Access) bool {
	return !hidden(path, who) && Permits(acls, jute.PermRead, who)
}
