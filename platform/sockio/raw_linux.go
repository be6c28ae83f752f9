package sockio

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"cairn/platform/vfs"
)

// sendfileMax is how much one system call is asked for. It keeps the count within an int of 32 bits and a thread from
// being away for long.
const sendfileMax = 4 << 20

// rawSender makes system calls on the connection's descriptor. Its two steps are functions kept from the beginning, and
// their arguments fields, so that a send allocates nothing.
type rawSender struct {
	w    *Writer         // whose field this is
	conn syscall.RawConn // nil: no plain TCP connection; then only total and the deadline are used
	// total is how many bytes the connection took since the beginning, on every path.
	total int64
	// deadlineSet says that a write deadline is on the connection and has to come off at the end of the Send.
	deadlineSet bool

	writevStep, sendfileStep func(fd uintptr) bool

	// Arguments and results of the step that runs.
	progress bool // bytes were taken since the deadline was set
	err      error
	out      *gather
	flags    int
	file     uintptr
	offset   int64
	left     int64
}

func (r *rawSender) init(conn syscall.RawConn) {
	r.conn = conn
	r.writevStep, r.sendfileStep = r.stepWritev, r.stepSendfile
}

// writev sends all staged slices.
func (r *rawSender) writev(out *gather, more bool) error {
	r.out, r.flags = out, unix.MSG_NOSIGNAL
	if more {
		r.flags |= unix.MSG_MORE
	}
	out.iov.set(out.parts())
	err := r.run(r.writevStep)
	r.out = nil
	return err
}

// run lets the network poller drive a step until it is done.
func (r *rawSender) run(step func(fd uintptr) bool) error {
	r.err, r.progress = nil, true
	if r.deadlineSet {
		// The time since the last wait was ours (reading a file), not the peer's.
		if err := r.extendDeadline(); err != nil {
			return err
		}
	}
	if err := r.conn.Write(step); err != nil {
		return err
	}
	return r.err
}

// stepWritev sends until all is taken (true) or the socket is full (false: called again when it is writable).
func (r *rawSender) stepWritev(fd uintptr) bool {
	for !r.out.iov.empty() {
		n, errno := r.out.iov.sendmsg(fd, r.flags)
		switch errno {
		case 0:
			r.took(int64(n))
			r.out.iov.advance(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return r.full()
		default:
			r.err = fmt.Errorf("sendmsg: %w", errno)
			return true
		}
	}
	return true
}

// sendfile sends a range and returns how much of it was taken.
func (r *rawSender) sendfile(p *Part, d vfs.Descriptor) (int64, error) {
	r.file, r.offset, r.left = d.Fd(), p.Position, p.Length
	err := r.run(r.sendfileStep)
	// The descriptor is a number: the file behind it must not be collected, and closed by that, before here.
	runtime.KeepAlive(p.File)
	return p.Length - r.left, err
}

// stepSendfile is stepWritev for a file. The offset is ours: the file's own belongs to nobody.
func (r *rawSender) stepSendfile(fd uintptr) bool {
	for r.left > 0 {
		n, err := unix.Sendfile(int(fd), int(r.file), &r.offset, int(min(r.left, sendfileMax)))
		switch {
		case err == nil && n > 0:
			r.left -= int64(n)
			r.took(int64(n))
		case err == nil:
			r.err = fmt.Errorf("sendfile at position %d, %d bytes left: %w", r.offset, r.left, ErrTruncated)
			return true
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return r.full()
		default:
			r.err = fmt.Errorf("sendfile at position %d: %w", r.offset, err)
			return true
		}
	}
	return true
}

func (r *rawSender) took(n int64) {
	r.total += n
	r.progress = true
}

// full is the answer of a step whose socket is full: wait, with a deadline counted from the last progress. A response
// that the socket takes at once never touches the deadline.
func (r *rawSender) full() (done bool) {
	if !r.progress {
		return false
	}
	r.progress = false
	r.err = r.extendDeadline()
	return r.err != nil
}

func (r *rawSender) extendDeadline() error {
	if r.w.cfg.StallTimeout <= 0 {
		return nil
	}
	r.deadlineSet = true
	return r.w.conn.SetWriteDeadline(r.w.cfg.Now().Add(r.w.cfg.StallTimeout))
}

// clearDeadline ends the deadline, which otherwise would fail a Send long after.
func (r *rawSender) clearDeadline() error {
	if !r.deadlineSet {
		return nil
	}
	r.deadlineSet = false
	return r.w.conn.SetWriteDeadline(time.Time{})
}

// iovector is a list of slices as sendmsg(2) wants it.
type iovector struct {
	list    [gatherMax]unix.Iovec
	from, n int // list[from:n] is still to be sent
	header  unix.Msghdr
}

func (v *iovector) set(parts [][]byte) {
	v.from, v.n = 0, len(parts)
	for i, b := range parts {
		v.list[i].Base = unsafe.SliceData(b)
		v.list[i].SetLen(len(b))
	}
}

func (v *iovector) reset() {
	clear(v.list[:v.n])
	v.from, v.n = 0, 0
	v.header = unix.Msghdr{}
}

func (v *iovector) empty() bool { return v.from == v.n }

// advance takes off what was sent.
func (v *iovector) advance(sent int) {
	for v.from < v.n {
		io := &v.list[v.from]
		if uint64(sent) < uint64(io.Len) {
			io.Base = (*byte)(unsafe.Add(unsafe.Pointer(io.Base), sent))
			io.SetLen(int(io.Len) - sent)
			return
		}
		sent -= int(io.Len)
		v.from++
	}
}

// sendmsg is writev with flags. The unix package's own allocates a list for each call.
func (v *iovector) sendmsg(fd uintptr, flags int) (int, syscall.Errno) {
	v.header.Iov = &v.list[v.from]
	v.header.SetIovlen(v.n - v.from)
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&v.header)), uintptr(flags))
	return int(n), errno
}
