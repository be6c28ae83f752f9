package jute

// StatSize is the encoded length of a Stat in bytes.
const StatSize = 68

// Stat is what a client sees of a node besides its data (org.apache.zookeeper.data.Stat). Times are milliseconds since
// 1970; Cversion counts changes of the children (creates and deletes); EphemeralOwner is a session id, or 0.
type Stat struct {
	Czxid, Mzxid                int64
	Ctime, Mtime                int64
	Version, Cversion, Aversion int32
	EphemeralOwner              int64
	DataLength, NumChildren     int32
	Pzxid                       int64
}

// Append encodes the record.
func (s *Stat) Append(dst []byte) []byte {
	dst = AppendInt64(dst, s.Czxid)
	dst = AppendInt64(dst, s.Mzxid)
	dst = AppendInt64(dst, s.Ctime)
	dst = AppendInt64(dst, s.Mtime)
	dst = AppendInt32(dst, s.Version)
	dst = AppendInt32(dst, s.Cversion)
	dst = AppendInt32(dst, s.Aversion)
	dst = AppendInt64(dst, s.EphemeralOwner)
	dst = AppendInt32(dst, s.DataLength)
	dst = AppendInt32(dst, s.NumChildren)
	return AppendInt64(dst, s.Pzxid)
}

// Read decodes the record.
func (s *Stat) Read(r *Reader) {
	s.Czxid, s.Mzxid = r.Int64(), r.Int64()
	s.Ctime, s.Mtime = r.Int64(), r.Int64()
	s.Version, s.Cversion, s.Aversion = r.Int32(), r.Int32(), r.Int32()
	s.EphemeralOwner = r.Int64()
	s.DataLength, s.NumChildren = r.Int32(), r.Int32()
	s.Pzxid = r.Int64()
}

// ID is an identity within a scheme: ("digest", "user:hash"), ("ip", "10.0.0.1"), ("world", "anyone").
type ID struct {
	Scheme string
	ID     string
}

// Append encodes the record.
func (i *ID) Append(dst []byte) []byte { return AppendString(AppendString(dst, i.Scheme), i.ID) }

// Read decodes the record.
func (i *ID) Read(r *Reader) { i.Scheme, i.ID = r.String(), r.String() }

// ACL gives permissions to one identity.
type ACL struct {
	Perms int32
	ID    ID
}

// aclMin is the least encoded length of an ACL: perms and two empty strings.
const aclMin = 12

// AppendACLs encodes a vector of ACL; nil is the null vector.
func AppendACLs(dst []byte, acls []ACL) []byte {
	if acls == nil {
		return AppendInt32(dst, -1)
	}
	dst = AppendInt32(dst, length(len(acls)))
	for i := range acls {
		dst = acls[i].ID.Append(AppendInt32(dst, acls[i].Perms))
	}
	return dst
}

// ACLs decodes a vector of ACL; nil is the null vector.
func (r *Reader) ACLs() []ACL {
	n := r.Count(aclMin)
	if n < 0 || r.err != nil {
		return nil
	}
	acls := make([]ACL, n)
	for i := range acls {
		acls[i].Perms = r.Int32()
		acls[i].ID.Read(r)
	}
	if r.err != nil {
		return nil
	}
	return acls
}

// AnyoneID is the identity of everybody.
func AnyoneID() ID { return ID{Scheme: SchemeWorld, ID: "anyone"} }

// OpenACL lets everybody do everything (ZooDefs.Ids.OPEN_ACL_UNSAFE).
func OpenACL() []ACL { return []ACL{{Perms: PermAll, ID: AnyoneID()}} }

// ReadACL lets everybody read (ZooDefs.Ids.READ_ACL_UNSAFE).
func ReadACL() []ACL { return []ACL{{Perms: PermRead, ID: AnyoneID()}} }

// CreatorAllACL lets the authenticated ids of the creator do everything (ZooDefs.Ids.CREATOR_ALL_ACL).
func CreatorAllACL() []ACL { return []ACL{{Perms: PermAll, ID: ID{Scheme: SchemeAuth}}} }
