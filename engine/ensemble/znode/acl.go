package znode

import (
	"slices"
	"strconv"
	"strings"

	"cairn/engine/ensemble/jute"
)

// Permits is ZooKeeperServer.checkACL: whether one of perm's bits is given to one of the ids. An empty list and an id
// of the scheme super permit everything.
func Permits(acls []jute.ACL, perm int32, who Access) bool {
	if who.Internal || who.SkipACL || len(acls) == 0 {
		return true
	}
	for i := range who.IDs {
		if who.IDs[i].Scheme == jute.SchemeSuper {
			return true
		}
	}
	for i := range acls {
		if acls[i].Perms&perm == 0 {
			continue
		}
		id := &acls[i].ID
		if id.Scheme == jute.SchemeWorld && id.ID == "anyone" {
			return true
		}
		for j := range who.IDs {
			if who.IDs[j].Scheme == id.Scheme && matches(id.Scheme, who.IDs[j].ID, id.ID) {
				return true
			}
		}
	}
	return false
}

// matches is AuthenticationProvider.matches of the providers that can be in an ACL.
func matches(scheme, id, expression string) bool {
	switch scheme {
	case jute.SchemeDigest, jute.SchemeX509:
		return id == expression
	case jute.SchemeSASL:
		return id == expression || id == "super"
	case jute.SchemeIP:
		return matchIP(id, expression)
	}
	return false
}

// permits asks a long list once in an entry: who asks is the same for all its ops, and no list is freed before its end.
// Otherwise a multi of small ops on one node would cost their number times the length of its list.
func (x *txn) permits(id nodeID, perm int32) bool {
	if x.acc.asked == nil && len(x.e.Ops) > 1 {
		x.acc = x.acc.Remembering()
	}
	return x.t.permits(id, perm, x.acc)
}

// permits asks the list of a node, unless who asks remembers its answer.
func (t *Tree) permits(id nodeID, perm int32, who Access) bool {
	acl := t.node(id).acl
	list := t.acls.list(acl)
	if who.asked == nil || len(list) <= aclShort {
		return Permits(list, perm, who)
	}
	ask := question{acl, perm}
	permitted, known := who.asked[ask]
	if !known {
		permitted = Permits(list, perm, who)
		who.asked[ask] = permitted
	}
	return permitted
}

// aclShort is the length up to which going through a list again costs about as much as remembering what was found.
const aclShort = 8

// question is what a list was asked.
type question struct {
	acl  aclID
	perm int32
}

// fixACL is PrepRequestProcessor.fixupACL: duplicates are removed, the scheme auth becomes the authenticated ids of the
// connection, and what is left must be well formed. A box that gives no list gets one that everybody may read.
func (x *txn) fixACL(acls []jute.ACL) ([]jute.ACL, jute.Code) {
	if x.acc.Internal && len(acls) == 0 {
		return jute.ReadACL(), jute.OK
	}
	if len(acls) == 0 {
		return nil, jute.InvalidACL
	}
	if len(acls) == 1 && acls[0].ID == jute.AnyoneID() {
		return acls, jute.OK
	}
	fixed := make([]jute.ACL, 0, len(acls))
	expanded, first := 0, firsts(acls)
	for i, a := range acls {
		if !first(i) {
			continue
		}
		switch a.ID.Scheme {
		case jute.SchemeAuth:
			n := len(fixed)
			for _, id := range x.e.Auth {
				if x.authenticates(id.Scheme) {
					if expanded += aclSize(&id); expanded > aclExpandedMax {
						return nil, jute.InvalidACL
					}
					fixed = append(fixed, jute.ACL{Perms: a.Perms, ID: id})
				}
			}
			if len(fixed) == n {
				return nil, jute.InvalidACL
			}
		default:
			if !x.validID(a.ID) {
				return nil, jute.InvalidACL
			}
			fixed = append(fixed, a)
		}
	}
	return fixed, jute.OK
}

// firsts gives a function that tells, asked in order, whether an ACL of the list was not there before. Comparing each with
// all before it would take the square of the list's length, which a client chooses.
func firsts(acls []jute.ACL) func(i int) bool {
	if len(acls) <= aclShort {
		return func(i int) bool { return !slices.Contains(acls[:i], acls[i]) }
	}
	seen := make(map[jute.ACL]struct{}, len(acls))
	return func(i int) bool {
		n := len(seen)
		seen[acls[i]] = struct{}{}
		return len(seen) > n
	}
}

// aclExpandedMax bounds what the scheme auth is expanded to, in encoded bytes: each of its ACLs stands for all ids of the
// connection, and the list must stay one that a snapshot can hold and a client can be answered with (ZooKeeper's own is
// bounded by jute.maxbuffer, which its transaction must fit into).
const aclExpandedMax = jute.MaxBufferDefault

// aclSize is the encoded length of an ACL with this id.
func aclSize(id *jute.ID) int { return 12 + len(id.Scheme) + len(id.ID) }

// authenticates tells the schemes that prove who somebody is (isAuthenticated), unlike ip.
func (x *txn) authenticates(scheme string) bool {
	switch scheme {
	case jute.SchemeDigest:
		return true
	case jute.SchemeSASL:
		return x.e.has(FlagSASL)
	case jute.SchemeX509:
		return x.e.has(FlagX509)
	}
	return false
}

// validID is isValid of the configured authentication providers.
func (x *txn) validID(id jute.ID) bool {
	switch id.Scheme {
	case jute.SchemeWorld:
		return id.ID == "anyone"
	case jute.SchemeDigest:
		return digestParts(id.ID) == 2
	case jute.SchemeIP:
		_, _, ok := parseIPExpression(id.ID)
		return ok
	case jute.SchemeSASL:
		return x.e.has(FlagSASL) && id.ID != ""
	case jute.SchemeX509:
		return x.e.has(FlagX509) && strings.Contains(id.ID, "=")
	}
	return false
}

// digestParts counts the parts of a digest id as Java's split does, which forgets empty parts at the end.
func digestParts(id string) int {
	if id == "" {
		return 1
	}
	id = strings.TrimRight(id, ":")
	if id == "" {
		return 0
	}
	return strings.Count(id, ":") + 1
}

// matchIP is IPAuthenticationProvider.matches: the address lies in the expression's network. IPv4 and IPv6 never match
// each other; the server gives an IPv4 address as such also when it came through an IPv6 socket.
func matchIP(id, expression string) bool {
	network, bits, ok := parseIPExpression(expression)
	if !ok {
		return false
	}
	address, ok := parseIP(id)
	if !ok || len(address) != len(network) {
		return false
	}
	for i := range address {
		mask := byte(0xff)
		if keep := bits - 8*i; keep <= 0 {
			break
		} else if keep < 8 {
			mask <<= 8 - keep
		}
		if (address[i]^network[i])&mask != 0 {
			return false
		}
	}
	return true
}

// parseIPExpression reads "address" or "address/bits".
func parseIPExpression(s string) (address []byte, bits int, ok bool) {
	text, length, prefixed := strings.Cut(s, "/")
	address, ok = parseIP(text)
	if !ok {
		return nil, 0, false
	}
	bits = 8 * len(address)
	if prefixed {
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > bits {
			return nil, 0, false
		}
		bits = n
	}
	return address, bits, true
}

// parseIP reads an address as ZooKeeper does: four decimal bytes, or eight groups of hex with one "::". Go's parser
// knows zones and dotted tails, which ZooKeeper refuses.
func parseIP(s string) ([]byte, bool) {
	if strings.Contains(s, ":") {
		return parseIPv6(s)
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return nil, false
	}
	address := make([]byte, 4)
	for i, part := range parts {
		v, err := strconv.Atoi(part)
		if err != nil || v < 0 || v > 255 {
			return nil, false
		}
		address[i] = byte(v)
	}
	return address, true
}

func parseIPv6(s string) ([]byte, bool) {
	head, tail, compressed := strings.Cut(s, "::")
	if compressed && strings.Contains(tail, "::") {
		return nil, false
	}
	groups := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ":")
	}
	front, back := groups(head), groups(tail)
	if n := len(front) + len(back); (compressed && n >= 8) || (!compressed && n != 8) {
		return nil, false
	}
	address := make([]byte, 16)
	put := func(at int, groups []string) bool {
		for _, g := range groups {
			v, err := strconv.ParseUint(g, 16, 16)
			if err != nil || len(g) > 4 {
				return false
			}
			address[at], address[at+1] = byte(v>>8), byte(v)
			at += 2
		}
		return true
	}
	if !put(0, front) || !put(16-2*len(back), back) {
		return nil, false
	}
	return address, true
}

// MaskACL hides what a reader without the ADMIN permission may not see: the hashes of digest ids become "x"
// (FinalRequestProcessor, getACL).
func MaskACL(acls []jute.ACL) []jute.ACL {
	masked := slices.Clone(acls)
	for i := range masked {
		if id := &masked[i].ID; id.Scheme == jute.SchemeDigest {
			if user, _, ok := strings.Cut(id.ID, ":"); ok {
				id.ID = user + ":x"
			}
		}
	}
	return masked
}
