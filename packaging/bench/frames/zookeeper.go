package frames

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// ZooKeeper's frames have four length bytes; a request then has xid and operation, a reply xid, zxid and error.
const (
	xidAt           = 4
	opCreate        = 1
	opDelete        = 2
	opGetData       = 4
	opSetData       = 5
	xidEvent        = 0xffffffff // of a watch's event
	numberDigits    = 8          // that end the path of a numbered request
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
func GetData(path string) *ZooKeeperRequest { return request(opGetData, path, 0) }

// GetDataWatch is a getData request that leaves a watch.
func GetDataWatch(path string) *ZooKeeperRequest { return request(opGetData, path, 1) }

// SetData is a setData request for whatever version there is.
func SetData(path string, data []byte) *ZooKeeperRequest {
	return request(opSetData, path, append(withData(data), 0xff, 0xff, 0xff, 0xff)...)
}

// Create is a create request for a persistent znode that anybody may use.
func Create(path string, data []byte) *ZooKeeperRequest {
	b := withData(data)
	b = binary.BigEndian.AppendUint32(b, 1) // ACLs
	b = binary.BigEndian.AppendUint32(b, 31)
	b = append(text(text(b, "world"), "anyone"), 0, 0, 0, 0)
	return request(opCreate, path, b...)
}

// Delete is a delete request for whatever version there is.
func Delete(path string) *ZooKeeperRequest { return request(opDelete, path, 0xff, 0xff, 0xff, 0xff) }

// Numbered is a path that ends in a number, which NumberedRequests replace.
func Numbered(prefix string) string { return prefix + strings.Repeat("0", numberDigits) }

// AppendNumbered appends a frame whose path was made by Numbered with the xid and the number, below 100 million.
func (r *ZooKeeperRequest) AppendNumbered(dst []byte, xid, number uint32) []byte {
	start := len(dst)
	dst = r.Append(dst, xid)
	path := dst[start+r.pathEnd-numberDigits : start+r.pathEnd]
	for i := range path {
		path[len(path)-1-i] = byte('0' + number%10)
		number /= 10
	}
	return dst
}

// request makes a frame of an operation, a path, and what follows it.
func request(op uint32, path string, rest ...byte) *ZooKeeperRequest {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+4+len(path)+len(rest)))
	b = binary.BigEndian.AppendUint32(b, 0) // xid
	b = text(binary.BigEndian.AppendUint32(b, op), path)
	return &ZooKeeperRequest{Bytes: append(b, rest...), pathEnd: len(b)}
}

func withData(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

func text(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// ZooKeeperRequest is an encoded frame in which the xid changes.
type ZooKeeperRequest struct {
	Bytes   []byte
	pathEnd int
}

// Append appends the frame with the xid.
func (r *ZooKeeperRequest) Append(dst []byte, xid uint32) []byte {
	start := len(dst)
	dst = append(dst, r.Bytes...)
	binary.BigEndian.PutUint32(dst[start+xidAt:], xid)
	return dst
}

// XID reads the xid of a request.
func XID(request []byte) uint32 { return binary.BigEndian.Uint32(request[xidAt:]) }

// IsEvent says whether a frame is the event of a watch.
func IsEvent(frame []byte) bool {
	return len(frame) >= replyHeadBytes && binary.BigEndian.Uint32(frame[xidAt:]) == xidEvent
}

// ReplyError reads the error of any reply.
func ReplyError(frame []byte) error {
	if len(frame) < replyHeadBytes {
		return fmt.Errorf("a reply of %d bytes is too short", len(frame))
	}
	if code := int32(binary.BigEndian.Uint32(frame[replyErrorAt:])); code != 0 {
		return fmt.Errorf("the server answered error %d", code)
	}
	return nil
}

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
