package zkserver

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// newAccess is who a connection is before it authenticates: its address.
func newAccess(remote netip.Addr, skipACL bool) *znode.Access {
	return &znode.Access{IDs: []jute.ID{{Scheme: jute.SchemeIP, ID: javaAddress(remote)}}, SkipACL: skipACL}
}

// javaAddress is InetAddress.getHostAddress, which ip ids are made of: IPv6 without "::".
func javaAddress(a netip.Addr) string {
	if !a.Is6() {
		return a.String()
	}
	b := a.As16()
	var s strings.Builder
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			s.WriteByte(':')
		}
		fmt.Fprintf(&s, "%x", int(b[i])<<8|int(b[i+1]))
	}
	return s.String()
}

// authResult is what an auth packet does to its connection.
type authResult struct {
	code jute.Code
	// close the connection: after the answer when the code says AuthFailed, without one otherwise.
	close bool
}

// authenticate adds the ids that an auth packet proves (AuthenticationProvider.handleAuthentication). The ids of a
// connection are replaced as a whole: requests that are under way keep those that they were sent with.
func (c *conn) authenticate(p *jute.AuthPacket) authResult {
	failed := authResult{jute.AuthFailed, true}
	switch {
	case p.Scheme == jute.SchemeDigest && p.Auth != nil:
		digest := Digest(string(p.Auth))
		// Any user and password are right: what they open is decided by the nodes' ACLs.
		if c.s.isSuper(digest) {
			if !c.addID(jute.ID{Scheme: jute.SchemeSuper}) {
				return failed
			}
		}
		if !c.addID(jute.ID{Scheme: jute.SchemeDigest, ID: digest}) {
			return failed
		}
		return authResult{jute.OK, false}
	case p.Scheme == jute.SchemeIP:
		return authResult{jute.OK, false} // it is there since the connection was accepted
	case p.Scheme == jute.SchemeEnsemble && c.s.cfg.EnsembleNames != nil:
		if len(p.Auth) == 0 || slices.Contains(c.s.cfg.EnsembleNames, string(p.Auth)) {
			return authResult{jute.OK, false}
		}
		return authResult{jute.BadArguments, true} // without an answer, so that the client tries another server
	}
	return failed
}

func (c *conn) addID(id jute.ID) bool {
	now := c.access.Load()
	if slices.Contains(now.IDs, id) {
		return true
	}
	if len(now.IDs) >= c.s.cfg.Limits.AuthIDsMax || idBytes(now.IDs)+len(id.ID) > authBytesMax {
		return false
	}
	c.access.Store(&znode.Access{IDs: append(slices.Clone(now.IDs), id), SkipACL: now.SkipACL})
	return true
}

// authBytesMax bounds the ids of a connection in bytes. Every write carries them through the log of every box, so that a
// long one, sent once, would make each small request behind it a large one.
const authBytesMax = 8 << 10

func idBytes(ids []jute.ID) int {
	n := 0
	for i := range ids {
		n += len(ids[i].ID)
	}
	return n
}

// Digest is the id that the scheme digest makes of "user:password": the user, a colon, and the base64 of the SHA-1 of
// the whole (DigestAuthenticationProvider.generateDigest).
func Digest(userPassword string) string {
	sum := sha1.Sum([]byte(userPassword))
	user, _, _ := strings.Cut(userPassword, ":")
	return user + ":" + base64.StdEncoding.EncodeToString(sum[:])
}

// Authorize is zkadmin.Source's: Commands.handleAuthentication and handleAuthorization. The header is a scheme and, after a
// blank, what proves it: "digest user:password", or "ip" alone. Every user and password are right here too; the root's
// ACLs decide.
func (s *Server) Authorize(header string, remote netip.Addr) (status int, reason string) {
	if header == "" {
		return http.StatusUnauthorized, "Auth info is missing for the command"
	}
	who := znode.Access{SkipACL: s.cfg.SkipACL}
	scheme, proof, proved := strings.Cut(header, " ")
	switch {
	case scheme == jute.SchemeDigest && proved && !strings.Contains(proof, " "):
		who.IDs = []jute.ID{{Scheme: jute.SchemeDigest, ID: Digest(proof)}}
		if s.isSuper(who.IDs[0].ID) {
			who.IDs = append(who.IDs, jute.ID{Scheme: jute.SchemeSuper})
		}
	case scheme == jute.SchemeIP && remote.IsValid():
		who.IDs = []jute.ID{{Scheme: jute.SchemeIP, ID: javaAddress(remote)}}
	default:
		return http.StatusUnauthorized, "Not authenticated"
	}
	permitted := true
	err := s.deps.Ensemble.View(func(t *znode.Tree, _ *ensemble.Watches) {
		acls := t.NodeACL("/")
		for bit := int32(1); bit <= jute.PermAll; bit <<= 1 { // all of them, and not any
			permitted = permitted && znode.Permits(acls, bit, who)
		}
	})
	switch {
	case err != nil:
		return http.StatusServiceUnavailable, err.Error()
	case !permitted:
		return http.StatusForbidden, "Not authorized"
	}
	return 0, ""
}

// isSuper compares in constant time.
func (s *Server) isSuper(digest string) bool {
	super := s.cfg.SuperDigest
	return super != "" && subtle.ConstantTimeCompare([]byte(digest), []byte(super)) == 1
}

// clientInfos is what whoAmI answers: schemes with the names of users (AuthUtil.getClientInfos).
func clientInfos(ids []jute.ID) []jute.ClientInfo {
	infos := make([]jute.ClientInfo, len(ids))
	for i, id := range ids {
		user := id.ID
		if id.Scheme == jute.SchemeDigest {
			user, _, _ = strings.Cut(user, ":")
		}
		infos[i] = jute.ClientInfo{AuthScheme: id.Scheme, User: user}
	}
	return infos
}

// enforced tells whether the connection may not be served before it authenticates.
func (c *conn) enforced() bool {
	schemes := c.s.cfg.EnforceAuthSchemes
	if len(schemes) == 0 {
		return false
	}
	for _, id := range c.access.Load().IDs {
		if slices.Contains(schemes, id.Scheme) {
			return false
		}
	}
	return true
}
