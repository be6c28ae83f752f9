package jute

// CreateRequest is the body of create, create2 and createContainer. Data is borrowed; nil is null.
type CreateRequest struct {
	Path  string
	Data  []byte
	ACL   []ACL
	Flags int32
}

// Append encodes the record.
func (q *CreateRequest) Append(dst []byte) []byte {
	return AppendInt32(AppendACLs(AppendBuffer(AppendString(dst, q.Path), q.Data), q.ACL), q.Flags)
}

// Read decodes the record.
func (q *CreateRequest) Read(r *Reader) {
	q.Path, q.Data, q.ACL, q.Flags = r.String(), r.Buffer(), r.ACLs(), r.Int32()
}

// CreateTTLRequest is the body of createTTL; TTL is in milliseconds.
type CreateTTLRequest struct {
	CreateRequest
	TTL int64
}

// Append encodes the record.
func (q *CreateTTLRequest) Append(dst []byte) []byte {
	return AppendInt64(q.CreateRequest.Append(dst), q.TTL)
}

// Read decodes the record.
func (q *CreateTTLRequest) Read(r *Reader) { q.CreateRequest.Read(r); q.TTL = r.Int64() }

// PathVersionRequest is the body of delete and check. Version -1 means any.
type PathVersionRequest struct {
	Path    string
	Version int32
}

// Append encodes the record.
func (q *PathVersionRequest) Append(dst []byte) []byte {
	return AppendInt32(AppendString(dst, q.Path), q.Version)
}

// Read decodes the record.
func (q *PathVersionRequest) Read(r *Reader) { q.Path, q.Version = r.String(), r.Int32() }

// PathWatchRequest is the body of exists, getData, getChildren and getChildren2.
type PathWatchRequest struct {
	Path  string
	Watch bool
}

// Append encodes the record.
func (q *PathWatchRequest) Append(dst []byte) []byte {
	return AppendBool(AppendString(dst, q.Path), q.Watch)
}

// Read decodes the record.
func (q *PathWatchRequest) Read(r *Reader) { q.Path, q.Watch = r.String(), r.Bool() }

// PathRequest is the body of getACL, sync, getAllChildrenNumber, deleteContainer and, as a prefix, of getEphemerals; it
// is also the body of the answers to create and sync.
type PathRequest struct{ Path string }

// Append encodes the record.
func (q *PathRequest) Append(dst []byte) []byte { return AppendString(dst, q.Path) }

// Read decodes the record.
func (q *PathRequest) Read(r *Reader) { q.Path = r.String() }

// PathTypeRequest is the body of checkWatches and removeWatches (Type is a WatcherType) and of addWatch (Type is a mode).
type PathTypeRequest struct {
	Path string
	Type int32
}

// Append encodes the record.
func (q *PathTypeRequest) Append(dst []byte) []byte {
	return AppendInt32(AppendString(dst, q.Path), q.Type)
}

// Read decodes the record.
func (q *PathTypeRequest) Read(r *Reader) { q.Path, q.Type = r.String(), r.Int32() }

// SetDataRequest is the body of setData. Data is borrowed; nil is null.
type SetDataRequest struct {
	Path    string
	Data    []byte
	Version int32
}

// Append encodes the record.
func (q *SetDataRequest) Append(dst []byte) []byte {
	return AppendInt32(AppendBuffer(AppendString(dst, q.Path), q.Data), q.Version)
}

// Read decodes the record.
func (q *SetDataRequest) Read(r *Reader) {
	q.Path, q.Data, q.Version = r.String(), r.Buffer(), r.Int32()
}

// SetACLRequest is the body of setACL; Version is compared with the node's Aversion.
type SetACLRequest struct {
	Path    string
	ACL     []ACL
	Version int32
}

// Append encodes the record.
func (q *SetACLRequest) Append(dst []byte) []byte {
	return AppendInt32(AppendACLs(AppendString(dst, q.Path), q.ACL), q.Version)
}

// Read decodes the record.
func (q *SetACLRequest) Read(r *Reader) { q.Path, q.ACL, q.Version = r.String(), r.ACLs(), r.Int32() }

// ReconfigRequest is the body of reconfig.
type ReconfigRequest struct {
	Joining, Leaving, NewMembers string
	CurConfigID                  int64
}

// Append encodes the record. Empty strings are sent as null, which is how clients leave them out.
func (q *ReconfigRequest) Append(dst []byte) []byte {
	for _, s := range [...]string{q.Joining, q.Leaving, q.NewMembers} {
		if s == "" {
			dst = AppendInt32(dst, -1)
			continue
		}
		dst = AppendString(dst, s)
	}
	return AppendInt64(dst, q.CurConfigID)
}

// Read decodes the record.
func (q *ReconfigRequest) Read(r *Reader) {
	q.Joining, q.Leaving, q.NewMembers, q.CurConfigID = r.String(), r.String(), r.String(), r.Int64()
}

// AuthPacket is the body of auth (xid -4). Auth is borrowed.
type AuthPacket struct {
	Type   int32
	Scheme string
	Auth   []byte
}

// Append encodes the record.
func (q *AuthPacket) Append(dst []byte) []byte {
	return AppendBuffer(AppendString(AppendInt32(dst, q.Type), q.Scheme), q.Auth)
}

// Read decodes the record.
func (q *AuthPacket) Read(r *Reader) { q.Type, q.Scheme, q.Auth = r.Int32(), r.String(), r.Buffer() }

// SASLToken is the body of sasl, both ways. Token is borrowed.
type SASLToken struct{ Token []byte }

// Append encodes the record.
func (q *SASLToken) Append(dst []byte) []byte { return AppendBuffer(dst, q.Token) }

// Read decodes the record.
func (q *SASLToken) Read(r *Reader) { q.Token = r.Buffer() }

// SetWatchesRequest is the body of setWatches (xid -8), by which a client that reconnected asks for its watches again.
type SetWatchesRequest struct {
	RelativeZxid       int64
	Data, Exist, Child []string
}

// Append encodes the record.
func (q *SetWatchesRequest) Append(dst []byte) []byte {
	dst = AppendInt64(dst, q.RelativeZxid)
	return AppendStrings(AppendStrings(AppendStrings(dst, q.Data), q.Exist), q.Child)
}

// Read decodes the record.
func (q *SetWatchesRequest) Read(r *Reader) {
	q.RelativeZxid, q.Data, q.Exist, q.Child = r.Int64(), r.Strings(), r.Strings(), r.Strings()
}

// SetWatches2Request is the body of setWatches2.
type SetWatches2Request struct {
	SetWatchesRequest
	Persistent, PersistentRecursive []string
}

// Append encodes the record.
func (q *SetWatches2Request) Append(dst []byte) []byte {
	return AppendStrings(AppendStrings(q.SetWatchesRequest.Append(dst), q.Persistent), q.PersistentRecursive)
}

// Read decodes the record.
func (q *SetWatches2Request) Read(r *Reader) {
	q.SetWatchesRequest.Read(r)
	q.Persistent, q.PersistentRecursive = r.Strings(), r.Strings()
}
