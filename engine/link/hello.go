package link

import (
	"encoding/binary"
	"errors"
	"io"
)

// A connection begins with a hello, which is answered with one byte:
//
//	"CAIRNLNK" 8 · version (3) 1 · protocol 1 · kind 1 · from 8 · to 8 · process 8 · length of the cluster's
//	name 1 · name
//
// Then the messages, each a length of 4 bytes and as many bytes; a length of 0 is a probe, answered with one byte. A stream
// is a head (length 4, bytes), a size of 8 bytes, as many bytes, and one byte of answer: 0 when all of it was taken. A
// question is a message, and so is its answer, which ends the connection. What follows on a pipe is its rooms'. Integers are
// big-endian.

const (
	helloMagic    = "CAIRNLNK"
	helloVersion  = 3
	helloBytes    = 8 + 1 + 1 + 1 + 8 + 8 + 8 + 1
	clusterMax    = 255
	answerProbe   = 0xA5
	answerRefused = 1 // the stream's handler did not take it
)

// kind is what a connection carries.
type kind uint8

const (
	kindBulk kind = iota
	kindUrgent
	kindStream
	kindAsk
	kindPipe
	kinds
)

// hello is how a connection introduces itself.
type hello struct {
	protocol Protocol
	kind     kind
	from, to uint64
	process  uint64 // a number that the box's process has drawn
	cluster  string
}

func (h hello) append(b []byte) []byte {
	b = append(append(b, helloMagic...), helloVersion, byte(h.protocol), byte(h.kind))
	b = binary.BigEndian.AppendUint64(b, h.from)
	b = binary.BigEndian.AppendUint64(b, h.to)
	b = binary.BigEndian.AppendUint64(b, h.process)
	return append(append(b, byte(len(h.cluster))), h.cluster...)
}

var errStranger = errors.New("it does not speak cairn's protocol between boxes")

// readHello reads a hello and nothing behind it.
func readHello(r io.Reader) (hello, error) {
	var b [helloBytes]byte
	const version = len(helloMagic) // where it stands
	if _, err := io.ReadFull(r, b[:version]); err != nil {
		return hello{}, err
	}
	if string(b[:version]) != helloMagic { // said at once, though a stranger may say less than a hello
		return hello{}, errStranger
	}
	if _, err := io.ReadFull(r, b[version:version+1]); err != nil {
		return hello{}, err
	}
	if b[version] != helloVersion { // what follows may be anything
		return hello{}, verdictVersion
	}
	if _, err := io.ReadFull(r, b[version+1:]); err != nil {
		return hello{}, err
	}
	if kind(b[10]) >= kinds {
		return hello{}, errStranger
	}
	h := hello{protocol: Protocol(b[9]), kind: kind(b[10]),
		from: binary.BigEndian.Uint64(b[11:]), to: binary.BigEndian.Uint64(b[19:]), process: binary.BigEndian.Uint64(b[27:])}
	name := make([]byte, b[35])
	if _, err := io.ReadFull(r, name); err != nil {
		return hello{}, err
	}
	h.cluster = string(name)
	return h, nil
}

// verdict is the answer to a hello.
type verdict uint8

const (
	verdictOK verdict = iota
	verdictVersion
	verdictBox
	verdictCluster
	verdictProtocol
	verdictUnknown
)

// Error implements error for those who dialled.
func (v verdict) Error() string {
	switch v {
	case verdictVersion:
		return "the other box speaks another version of the protocol between boxes"
	case verdictBox:
		return "another box answers at this address: two boxes have each other's address, or one has another's number"
	case verdictCluster:
		return "the other box belongs to another cluster"
	case verdictProtocol:
		return "the other box does not take this protocol"
	}
	return "the other box does not know this one: it is not among its servers"
}
