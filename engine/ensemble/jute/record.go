package jute

// Record is one record of zookeeper.jute. Read leaves the receiver unspecified when the reader has an error.
type Record interface {
	Append(dst []byte) []byte
	Read(r *Reader)
}

// RequestHeader precedes every request after the handshake.
type RequestHeader struct {
	Xid int32
	Op  OpCode
}

// Append encodes the record.
func (h *RequestHeader) Append(dst []byte) []byte {
	return AppendInt32(AppendInt32(dst, h.Xid), int32(h.Op))
}

// Read decodes the record.
func (h *RequestHeader) Read(r *Reader) { h.Xid, h.Op = r.Int32(), OpCode(r.Int32()) }

// ReplyHeader precedes every reply and notification. A body follows only when Err is OK. Zxid is the last zxid that the
// server had applied: for a write, its own.
type ReplyHeader struct {
	Xid  int32
	Zxid int64
	Err  Code
}

// Append encodes the record.
func (h *ReplyHeader) Append(dst []byte) []byte {
	return AppendInt32(AppendInt64(AppendInt32(dst, h.Xid), h.Zxid), int32(h.Err))
}

// Read decodes the record.
func (h *ReplyHeader) Read(r *Reader) { h.Xid, h.Zxid, h.Err = r.Int32(), r.Int64(), Code(r.Int32()) }

// ConnectRequest opens or reopens a session. Clients of 3.3 and before do not send ReadOnly, and are not sent it;
// HasReadOnly remembers which form it was (ProtocolManager). Passwd is borrowed.
type ConnectRequest struct {
	ProtocolVersion int32
	LastZxidSeen    int64
	TimeoutMs       int32
	SessionID       int64
	Passwd          []byte
	ReadOnly        bool
	HasReadOnly     bool
}

// Append encodes the record.
func (c *ConnectRequest) Append(dst []byte) []byte {
	dst = AppendInt32(dst, c.ProtocolVersion)
	dst = AppendInt64(dst, c.LastZxidSeen)
	dst = AppendInt32(dst, c.TimeoutMs)
	dst = AppendInt64(dst, c.SessionID)
	dst = AppendBuffer(dst, c.Passwd)
	if c.HasReadOnly {
		dst = AppendBool(dst, c.ReadOnly)
	}
	return dst
}

// Read decodes the record.
func (c *ConnectRequest) Read(r *Reader) {
	c.ProtocolVersion = r.Int32()
	c.LastZxidSeen = r.Int64()
	c.TimeoutMs = r.Int32()
	c.SessionID = r.Int64()
	c.Passwd = r.Buffer()
	c.HasReadOnly = r.Err() == nil && r.Remaining() > 0
	c.ReadOnly = c.HasReadOnly && r.Bool()
}

// ConnectResponse answers a ConnectRequest, in the form that the request had. A refused session is told by zeros: no
// timeout, no id, sixteen zero bytes of password.
type ConnectResponse struct {
	ProtocolVersion int32
	TimeoutMs       int32
	SessionID       int64
	Passwd          []byte
	ReadOnly        bool
	HasReadOnly     bool
}

// Append encodes the record.
func (c *ConnectResponse) Append(dst []byte) []byte {
	dst = AppendInt32(dst, c.ProtocolVersion)
	dst = AppendInt32(dst, c.TimeoutMs)
	dst = AppendInt64(dst, c.SessionID)
	dst = AppendBuffer(dst, c.Passwd)
	if c.HasReadOnly {
		dst = AppendBool(dst, c.ReadOnly)
	}
	return dst
}

// Read decodes the record.
func (c *ConnectResponse) Read(r *Reader) {
	c.ProtocolVersion = r.Int32()
	c.TimeoutMs = r.Int32()
	c.SessionID = r.Int64()
	c.Passwd = r.Buffer()
	c.HasReadOnly = r.Err() == nil && r.Remaining() > 0
	c.ReadOnly = c.HasReadOnly && r.Bool()
}

// WatcherEvent is the body of a notification.
type WatcherEvent struct {
	Type  EventType
	State int32
	Path  string
}

// Append encodes the record.
func (e *WatcherEvent) Append(dst []byte) []byte {
	return AppendString(AppendInt32(AppendInt32(dst, int32(e.Type)), e.State), e.Path)
}

// Read decodes the record.
func (e *WatcherEvent) Read(r *Reader) {
	e.Type, e.State, e.Path = EventType(r.Int32()), r.Int32(), r.String()
}

// ClientInfo is one line of WhoAmIResponse.
type ClientInfo struct {
	AuthScheme string
	User       string
}
