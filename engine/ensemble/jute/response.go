package jute

// Responses whose body is one field are appended with the primitives: a path (create, sync), a Stat (exists, setData,
// setACL), a vector of ustring (getChildren, getEphemerals), an int (getAllChildrenNumber; ErrorResponse of addWatch).

// CreateResponse is the body of the answer to create and to sync: the path.
type CreateResponse = PathRequest

// Create2Response is the body of the answer to create2, createContainer and createTTL.
type Create2Response struct {
	Path string
	Stat Stat
}

// Append encodes the record.
func (p *Create2Response) Append(dst []byte) []byte { return p.Stat.Append(AppendString(dst, p.Path)) }

// Read decodes the record.
func (p *Create2Response) Read(r *Reader) { p.Path = r.String(); p.Stat.Read(r) }

// GetDataResponse is the body of the answer to getData and reconfig. Data is borrowed; nil is null.
type GetDataResponse struct {
	Data []byte
	Stat Stat
}

// Append encodes the record.
func (p *GetDataResponse) Append(dst []byte) []byte { return p.Stat.Append(AppendBuffer(dst, p.Data)) }

// Read decodes the record.
func (p *GetDataResponse) Read(r *Reader) { p.Data = r.Buffer(); p.Stat.Read(r) }

// GetACLResponse is the body of the answer to getACL.
type GetACLResponse struct {
	ACL  []ACL
	Stat Stat
}

// Append encodes the record.
func (p *GetACLResponse) Append(dst []byte) []byte { return p.Stat.Append(AppendACLs(dst, p.ACL)) }

// Read decodes the record.
func (p *GetACLResponse) Read(r *Reader) { p.ACL = r.ACLs(); p.Stat.Read(r) }

// GetChildrenResponse is the body of the answer to getChildren and getEphemerals.
type GetChildrenResponse struct{ Children []string }

// Append encodes the record.
func (p *GetChildrenResponse) Append(dst []byte) []byte { return AppendStrings(dst, p.Children) }

// Read decodes the record.
func (p *GetChildrenResponse) Read(r *Reader) { p.Children = r.Strings() }

// GetChildren2Response is the body of the answer to getChildren2.
type GetChildren2Response struct {
	Children []string
	Stat     Stat
}

// Append encodes the record.
func (p *GetChildren2Response) Append(dst []byte) []byte {
	return p.Stat.Append(AppendStrings(dst, p.Children))
}

// Read decodes the record.
func (p *GetChildren2Response) Read(r *Reader) { p.Children = r.Strings(); p.Stat.Read(r) }

// Int32Response is the body of the answer to getAllChildrenNumber (a number) and addWatch (ErrorResponse).
type Int32Response struct{ Value int32 }

// Append encodes the record.
func (p *Int32Response) Append(dst []byte) []byte { return AppendInt32(dst, p.Value) }

// Read decodes the record.
func (p *Int32Response) Read(r *Reader) { p.Value = r.Int32() }

// WhoAmIResponse is the body of the answer to whoAmI: the ids of the connection, the ip included.
type WhoAmIResponse struct{ ClientInfo []ClientInfo }

// Append encodes the record.
func (p *WhoAmIResponse) Append(dst []byte) []byte {
	if p.ClientInfo == nil {
		return AppendInt32(dst, -1)
	}
	dst = AppendInt32(dst, length(len(p.ClientInfo)))
	for _, c := range p.ClientInfo {
		dst = AppendString(AppendString(dst, c.AuthScheme), c.User)
	}
	return dst
}

// Read decodes the record.
func (p *WhoAmIResponse) Read(r *Reader) {
	p.ClientInfo = nil
	n := r.Count(8)
	if n < 0 || r.Err() != nil {
		return
	}
	p.ClientInfo = make([]ClientInfo, n)
	for i := range p.ClientInfo {
		p.ClientInfo[i] = ClientInfo{AuthScheme: r.String(), User: r.String()}
	}
}
