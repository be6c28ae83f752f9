package frames

import (
	"encoding/binary"
	"fmt"
)

// ZooKeeper's frames have four length bytes; a request then has xid and operation, a reply xid, zxid and error.
const (
	xidAt           = 4
	opGetData       = 4
	replyErrorAt    = 16
	replyHeadBytes  = 20
	statBytes       = 68
	connectReplyMin = 4 + 4 + 4 + 8 + 4
)

// ZooKeeperConnect is the frame that opens a session.
func ZooKeeperConnect(timeoutMs int32) []byte {
	b := binary.BigEndian.AppendUint32(nil, 45)
	b = binary.BigEndian.AppendUint32(b, 0)                 // protocol version
	b = binary.BigEndian.AppendUint64(b, 0)                 // last zxid seen
	b = binary.BigEndian.AppendUint32(b, uint32(timeoutMs)) // session timeout
	b = binary.BigEndian.AppendUint64(b, 0)                 // session id: a new one
	b = binary.BigEndian.AppendUint32(b, 16)                // password
	b = append(b, make([]byte, 16)...)
	return append(b, 0) // not read-only
}

// ConnectError looks at the answer to ZooKeeperConnect.
func ConnectError(frame []byte) error {
	if len(frame) < connectReplyMin {
		return fmt.Errorf("a connect response of %d bytes is too short", len(frame))
	}
	if id := binary.BigEndian.Uint64(frame[12:]); id == 0 {
		return fmt.Errorf("the server gave no session")
	}
	return nil
}

// GetData is a getData request without watch.
func GetData(path string) *ZooKeeperRequest {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+4+len(path)+1))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, opGetData)
	b = binary.BigEndian.AppendUint32(b, uint32(len(path)))
	b = append(b, path...)
	return &ZooKeeperRequest{Bytes: append(b, 0)}
}

// ZooKeeperRequest is an encoded frame in which the xid changes.
type ZooKeeperRequest struct{ Bytes []byte }

// Append appends the frame with the xid.
func (r *ZooKeeperRequest) Append(dst []byte, xid uint32) []byte {
	start := len(dst)
	dst = append(dst, r.Bytes...)
	binary.BigEndian.PutUint32(dst[start+xidAt:], xid)
	return dst
}

// XID reads the xid of a request.
func XID(request []byte) uint32 { return binary.BigEndian.Uint32(request[xidAt:]) }

// GetDataReplyBytes is the size of a reply frame for a znode with so many bytes of data.
func GetDataReplyBytes(data int) int { return replyHeadBytes + 4 + data + statBytes }

// GetDataError checks that a reply frame carries so many bytes of data.
func GetDataError(frame []byte, data int) error {
	if len(frame) < replyHeadBytes {
		return fmt.Errorf("a getData reply of %d bytes is too short", len(frame))
	}
	if code := int32(binary.BigEndian.Uint32(frame[replyErrorAt:])); code != 0 {
		return fmt.Errorf("getData failed with error %d", code)
	}
	if want := GetDataReplyBytes(data); len(frame) != want {
		return fmt.Errorf("a getData reply has %d bytes, want %d", len(frame), want)
	}
	return nil
}
