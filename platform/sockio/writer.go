package sockio

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cairn/platform/vfs"
)

const (
	// SendfileMin is the length from which a file range is sent by sendfile. Below about 32 KiB a pread into a pooled
	// buffer and one write cost the server no more CPU and the reader less (reference/performance.md, finding 5 and table a).
	SendfileMin = 32 << 10

	// copyPiece is how much is read and written at a time where bytes have to be copied: the best of the measured sizes
	// (reference/performance.md, table a: "pread 128 KiB pieces + write").
	copyPiece = 128 << 10
)

// Errors that callers tell apart. After any error of Send a part of the response may be on the wire: the connection is
// of no further use and the caller closes it.
var (
	// ErrTruncated means that a file is shorter than its part promised: it was cut while it was sent.
	ErrTruncated = errors.New("file is shorter than promised")
	// ErrStalled means that the peer took nothing for the stall timeout.
	ErrStalled = errors.New("peer takes no bytes")
)

// Part is a piece of a response: Bytes, or if File is set, Length bytes of the file from Position on. Both are borrowed
// until Send returns; a file must not be closed before, nor its range overwritten before the peer has acknowledged it,
// since sendfile hands pages of the file to the socket and not copies.
type Part struct {
	Bytes    []byte
	File     vfs.File
	Position int64
	Length   int64
}

// Config is what a Writer is told.
type Config struct {
	// StallTimeout is how long the peer may take nothing before Send fails with ErrStalled. Where bytes pass through
	// another connection type (TLS), it is the time for each piece of 128 KiB. 0 means for ever.
	StallTimeout time.Duration
	// SendfileMin is the length from which sendfile is used; 0 means SendfileMin.
	SendfileMin int64
	// Counters are added to; nil counts nothing. One Counters may serve many Writers.
	Counters *Counters
	// Now is the clock of the connection's deadlines; nil means time.Now.
	Now func() time.Time
}

// Counters says how many bytes took which way. Its methods may be called at any time.
type Counters struct {
	memory, sendfile, copied, sends, stalls atomic.Uint64
}

// MemoryBytes is how many bytes came from Part.Bytes.
func (c *Counters) MemoryBytes() uint64 { return c.memory.Load() }

// SendfileBytes is how many bytes of files went by sendfile.
func (c *Counters) SendfileBytes() uint64 { return c.sendfile.Load() }

// CopiedBytes is how many bytes of files were read into memory and written from there.
func (c *Counters) CopiedBytes() uint64 { return c.copied.Load() }

// Sends is how many responses were begun.
func (c *Counters) Sends() uint64 { return c.sends.Load() }

// Stalls is how many ended with ErrStalled.
func (c *Counters) Stalls() uint64 { return c.stalls.Load() }

// Writer is the sending side of one connection. While it is in use it owns the connection's write deadline, and nobody
// else writes to the connection. Idle it holds no buffer.
type Writer struct {
	conn net.Conn
	cfg  Config

	// mu makes a response one unit on the wire. It is held while Send waits for the peer, over nothing else of the room.
	mu     sync.Mutex
	err    error      // the first failure; every later Send returns it
	out    *gather    // of the Send in progress
	raw    rawSender  // its conn is nil if this is no plain TCP connection
	staged stagedSums // what lies in out, by origin
}

// stagedSums are counted once they are written.
type stagedSums struct{ memory, copied uint64 }

// NewWriter returns the Writer of a connection. Only a *net.TCPConn itself is plain; everything that wraps one gets the
// copy path, since it may have to see the bytes.
func NewWriter(conn net.Conn, cfg Config) *Writer {
	if cfg.SendfileMin <= 0 {
		cfg.SendfileMin = SendfileMin
	}
	if cfg.Counters == nil {
		cfg.Counters = &Counters{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Writer{conn: conn, cfg: cfg}
	w.raw.w = w
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			w.raw.init(raw)
		}
	}
	return w
}

// Send writes all parts in order and returns how many bytes were taken by the connection. It blocks while another Send
// of the same Writer runs and while the peer is slow; closing the connection ends it. The error of a file or of the
// connection, ErrTruncated or ErrStalled is wrapped; it is also the answer to every later Send.
func (w *Writer) Send(parts []Part) (sent int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.cfg.Counters.sends.Add(1)
	before := w.raw.total
	w.out = takeGather()
	for i := range parts {
		if err = w.part(&parts[i], i == len(parts)-1); err != nil {
			break
		}
	}
	if err == nil {
		err = w.flush(false)
	}
	w.out.free()
	w.out, w.staged = nil, stagedSums{}
	if clearErr := w.raw.clearDeadline(); err == nil {
		err = clearErr
	}
	sent = w.raw.total - before
	if err != nil {
		w.err = w.explain(err, sent)
		return sent, w.err
	}
	return sent, nil
}

// part stages or sends one part. What is staged leaves with the next flush.
func (w *Writer) part(p *Part, last bool) error {
	switch {
	case p.File == nil:
		return w.memory(p.Bytes, last)
	case p.Position < 0 || p.Length < 0:
		return fmt.Errorf("file part of %d bytes at position %d", p.Length, p.Position)
	case p.Length >= w.cfg.SendfileMin && w.raw.conn != nil:
		if d, ok := p.File.(vfs.Descriptor); ok {
			return w.sendfile(p, d)
		}
	}
	return w.copyFile(p.File, p.Position, p.Length)
}

// memory stages bytes. A connection that takes one slice at a time gets small ones copied together.
func (w *Writer) memory(b []byte, last bool) error {
	if len(b) == 0 {
		return nil
	}
	if w.raw.conn == nil && (!last || w.out.used > 0) && len(b) <= copyPiece/2 {
		return w.join(b)
	}
	if w.out.full() {
		if err := w.flush(true); err != nil {
			return err
		}
	}
	w.out.add(b)
	w.staged.memory += uint64(len(b))
	return nil
}

// join copies bytes behind what is staged.
func (w *Writer) join(b []byte) error {
	for len(b) > 0 {
		space, err := w.space(len(b))
		if err != nil {
			return err
		}
		n := copy(space, b)
		w.out.take(n)
		w.staged.memory += uint64(n)
		b = b[n:]
	}
	return nil
}

// copyFile reads a range into the buffer, piece by piece, and leaves the last piece staged, so that it shares a write
// with what comes before and behind.
func (w *Writer) copyFile(file vfs.File, position, length int64) error {
	for length > 0 {
		space, err := w.space(int(min(length, copyPiece)))
		if err != nil {
			return err
		}
		n, err := file.ReadAt(space[:min(length, int64(len(space)))], position)
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			if errors.Is(err, io.EOF) {
				err = ErrTruncated
			}
			return fmt.Errorf("read file at position %d, %d bytes left: %w", position, length, err)
		}
		w.out.take(n)
		w.staged.copied += uint64(n)
		position, length = position+int64(n), length-int64(n)
	}
	return nil
}

// space is room in the buffer for up to want bytes, at least one; it flushes if there is none, or so little that the
// system calls would be small ones.
func (w *Writer) space(want int) ([]byte, error) {
	if left := copyPiece - w.out.used; w.out.full() || left < min(want, SendfileMin) {
		if err := w.flush(true); err != nil {
			return nil, err
		}
	}
	return w.out.space(want), nil
}

// sendfile sends a range behind what is staged. A file whose file system cannot be sent from is copied.
func (w *Writer) sendfile(p *Part, d vfs.Descriptor) error {
	if err := w.flush(true); err != nil {
		return err
	}
	n, err := w.raw.sendfile(p, d)
	w.cfg.Counters.sendfile.Add(uint64(n))
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP) {
		return w.copyFile(p.File, p.Position+n, p.Length-n)
	}
	return err
}

// flush writes what is staged. With more, the kernel may keep the end of it back for the bytes that follow.
func (w *Writer) flush(more bool) (err error) {
	if w.out.n == 0 {
		return nil
	}
	if w.raw.conn != nil {
		err = w.raw.writev(w.out, more)
	} else {
		err = w.writeEach()
	}
	if err == nil {
		w.cfg.Counters.memory.Add(w.staged.memory)
		w.cfg.Counters.copied.Add(w.staged.copied)
	}
	w.out.reset()
	w.staged = stagedSums{}
	return err
}

// writeEach is for connections of other kinds. The pieces bound what one deadline is for: a TLS connection is of no use
// after a write that ran into its deadline, so a deadline cannot be tried again as long as there is progress.
func (w *Writer) writeEach() error {
	for _, b := range w.out.parts() {
		for len(b) > 0 {
			piece := b[:min(len(b), copyPiece)]
			if err := w.raw.extendDeadline(); err != nil {
				return err
			}
			n, err := w.conn.Write(piece)
			w.raw.total += int64(n)
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

// explain names the peer, and a stall as such.
func (w *Writer) explain(err error, sent int64) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.cfg.Counters.stalls.Add(1)
		err = fmt.Errorf("nothing taken for %v: %w", w.cfg.StallTimeout, ErrStalled)
	}
	return fmt.Errorf("send to %v after %d bytes: %w", w.conn.RemoteAddr(), sent, err)
}
