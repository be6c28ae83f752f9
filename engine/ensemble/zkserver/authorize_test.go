package zkserver

import (
	"net/netip"
	"testing"

	"github.com/go-zookeeper/zk"
)

// The commands that carry the tree take all permissions on the root, each of them, as in ZooKeeper 3.9.
func TestAuthorize(t *testing.T) {
	b := start(t, func(c *Config) { c.SuperDigest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=" })
	local, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.9")
	ask := func(when, header string, from netip.Addr, want int) {
		t.Helper()
		if status, reason := b.Authorize(header, from); status != want || (status == 0) != (reason == "") {
			t.Errorf("%s, %q from %v: %d %q, want %d", when, header, from, status, reason, want)
		}
	}
	const open = "the root is open"
	ask(open, "", local, 401)
	ask(open, "digest any:body", other, 0)
	ask(open, "ip", other, 0)
	ask(open, "digest", local, 401)
	ask(open, "digest a:b c", local, 401)
	ask(open, "Basic YTpi", local, 401)
	ask(open, "world anyone", local, 401)
	ask(open, "super ", local, 401)
	ask(open, "ip", netip.Addr{}, 401)

	c := b.zk(t)
	if err := c.AddAuth("digest", []byte("owner:secret")); err != nil {
		t.Fatal(err)
	}
	acls := append(zk.DigestACL(zk.PermAll, "owner", "secret"), zk.ACL{Perms: zk.PermAll &^ zk.PermAdmin, Scheme: "ip", ID: "127.0.0.1"})
	if _, err := c.SetACL("/", acls, -1); err != nil {
		t.Fatal(err)
	}
	const closed = "the root is its owner's"
	ask(closed, "digest owner:secret", other, 0)
	ask(closed, "digest owner:guess", other, 403)
	ask(closed, "digest super:test", other, 0)
	ask(closed, "ip", local, 403) // all but one are not all
	ask(closed, "ip", other, 403)
}
