package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/carry"
	"cairn/engine/ensemble/zkdata"
	"cairn/engine/ensemble/zkserver/zkadmin"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// carrier takes the tree out and in for the console: zkadmin.Carrier. What goes out is written to a file first, since the
// ensemble must not wait for a client that reads slowly; what comes in is read whole and checked first, since every part
// of it goes through the log of every box. One of each is under way at a time.
type carrier struct {
	n   *Node
	dir string

	mu      sync.Mutex // protects what follows; nothing is called while it is held
	busy    map[string]bool
	closed  bool
	running sync.WaitGroup
}

// spoolDir is where files lie on their way, below the data directory. A start empties it.
const spoolDir = "spool"

// openCarrier comes before the ensemble, so that it is closed after it: what is under way ends with the ensemble.
func (n *Node) openCarrier() error {
	c := &carrier{n: n, dir: path.Join(n.cfg.Data, spoolDir), busy: map[string]bool{}}
	if err := n.deps.FS.MkdirAll(c.dir); err != nil {
		return fmt.Errorf("spool directory: %w", err)
	}
	left, err := n.deps.FS.List(c.dir)
	if err != nil {
		return fmt.Errorf("spool directory: %w", err)
	}
	for _, f := range left {
		if err := n.deps.FS.Remove(path.Join(c.dir, f.Name)); err != nil {
			return fmt.Errorf("empty the spool directory: %w", err)
		}
	}
	n.carrier = c
	n.closes("backups and restores", c.close)
	return nil
}

func (c *carrier) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
	return nil
}

// begin takes the place for one thing of that name. end gives it back.
func (c *carrier) begin(name string) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ensemble.ErrClosed
	}
	if c.busy[name] {
		return nil, &zkadmin.Refusal{Status: http.StatusTooManyRequests, Err: fmt.Errorf("another %s is under way: try again when it is over", name)}
	}
	c.busy[name] = true
	c.running.Add(1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, name)
		c.running.Done()
	}, nil
}

// uploadBytesMax bounds what a restore takes: a tree is shorter on disk than in memory, in any of the formats but for long
// paths in ZooKeeper's.
func (c *carrier) uploadBytesMax() int64 { return 2 * c.n.cfg.Limits.ZooKeeper.TreeBytesMax }

// Snapshot implements zkadmin.Carrier.
func (c *carrier) Snapshot(ctx context.Context, format string) (*zkadmin.Snapshot, error) {
	end, err := c.begin("snapshot")
	if err != nil {
		return nil, err
	}
	s, err := c.snapshot(ctx, format, end)
	if err != nil {
		end()
		return nil, carryRefusal(err)
	}
	return s, nil
}

func (c *carrier) snapshot(ctx context.Context, format string, end func()) (*zkadmin.Snapshot, error) {
	file, err := c.spool("snapshot")
	if err != nil {
		return nil, err
	}
	info, err := c.backup(ctx, file)
	if err == nil && format == zkadmin.FormatZooKeeper {
		file, err = c.convert(file, "snapshot.zookeeper", carry.WriteZooKeeper)
	}
	if err != nil {
		return nil, errors.Join(err, file.drop())
	}
	r, err := file.reader()
	if err != nil {
		return nil, errors.Join(err, file.drop())
	}
	file.end = end
	return &zkadmin.Snapshot{
		ReadCloser: struct {
			io.Reader
			io.Closer
		}{r, file},
		Zxid: info.Zxid, Bytes: r.Size(), Nodes: info.Nodes, Ephemerals: info.Ephemerals,
	}, nil
}

// backup writes a backup into a file. A client that goes away ends it.
func (c *carrier) backup(ctx context.Context, file *spooled) (ensemble.BackupInfo, error) {
	type answer struct {
		info ensemble.BackupInfo
		err  error
	}
	done := make(chan answer, 1)
	c.n.ensemble.Backup(&cancelled{ctx, vfs.Appender(file.f)}, func(info ensemble.BackupInfo, err error) { done <- answer{info, err} })
	a := <-done
	return a.info, a.err
}

// cancelled is a writer that fails once nobody wants it any more.
type cancelled struct {
	ctx context.Context
	w   io.Writer
}

func (c *cancelled) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// convert reads a file that holds a tree, and drops it for one in another format.
func (c *carrier) convert(from *spooled, name string, write func(io.Writer, *znode.Backup) error) (*spooled, error) {
	r, err := from.reader()
	if err != nil {
		return from, err
	}
	b, _, err := carry.Read(r, c.n.cfg.Limits.ZooKeeper.TreeBytesMax)
	if err != nil {
		return from, err
	}
	to, err := c.spool(name)
	if err != nil {
		return from, err
	}
	return to, errors.Join(write(vfs.Appender(to.f), b), from.drop())
}

// Restore implements zkadmin.Carrier.
func (c *carrier) Restore(body io.Reader) (zkadmin.Restored, error) {
	end, err := c.begin("restore")
	if err != nil {
		return zkadmin.Restored{}, err
	}
	defer end()
	file, err := c.spool("restore")
	if err != nil {
		return zkadmin.Restored{}, carryRefusal(err)
	}
	done, err := c.restore(body, &file)
	if err = errors.Join(err, file.drop()); err != nil {
		return zkadmin.Restored{}, carryRefusal(err)
	}
	return done, nil
}

func (c *carrier) restore(body io.Reader, file **spooled) (zkadmin.Restored, error) {
	if _, err := io.CopyBuffer(vfs.Appender((*file).f), body, make([]byte, 256<<10)); err != nil {
		return zkadmin.Restored{}, fmt.Errorf("receive what is to be restored: %w", err)
	}
	report, err := c.check(file)
	if err != nil {
		return zkadmin.Restored{}, err
	}
	r, err := (*file).reader()
	if err != nil {
		return zkadmin.Restored{}, err
	}
	zxid, err := awaitRestore(c.n.ensemble, carry.Frames(r))
	if err != nil {
		return zkadmin.Restored{}, err
	}
	return zkadmin.Restored{Zxid: zxid, Nodes: report.Nodes, Ephemerals: report.Ephemerals, Reserved: report.Reserved}, nil
}

// check reads what is to be restored whole, and makes a backup of it if it is none. The tree that it makes is dropped when
// it returns: the boxes make their own.
func (c *carrier) check(file **spooled) (carry.Report, error) {
	r, err := (*file).reader()
	if err != nil {
		return carry.Report{}, err
	}
	b, report, err := carry.Read(r, c.n.cfg.Limits.ZooKeeper.TreeBytesMax)
	if err != nil {
		return report, err
	}
	to, err := c.spool("restore.backup")
	if err != nil {
		return report, err
	}
	from := *file
	*file = to
	return report, errors.Join(carry.Write(vfs.Appender(to.f), b), from.drop())
}

func awaitRestore(e *ensemble.Ensemble, frames func() ([]byte, error)) (zxid int64, err error) {
	done := make(chan struct{})
	e.Restore(frames, func(z int64, failed error) {
		zxid, err = z, failed
		close(done)
	})
	<-done
	return zxid, err
}

// carryRefusals are the statuses of what is not this server's fault.
var carryRefusals = []struct {
	err    error
	status int
}{
	{znode.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{zkdata.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{ensemble.ErrTreeFull, http.StatusRequestEntityTooLarge},
	{ensemble.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{znode.ErrSnapshot, http.StatusBadRequest},
	{zkdata.ErrDamaged, http.StatusBadRequest},
	{carry.ErrUnknown, http.StatusBadRequest},
	{ensemble.ErrNoBackup, http.StatusBadRequest},
	{ensemble.ErrOvertaken, http.StatusConflict},
	{ensemble.ErrFull, http.StatusTooManyRequests},
	{ensemble.ErrNoQuorum, http.StatusServiceUnavailable},
	{ensemble.ErrNotLeader, http.StatusServiceUnavailable},
	{ensemble.ErrClosed, http.StatusServiceUnavailable},
}

func carryRefusal(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &zkadmin.Refusal{Status: http.StatusRequestEntityTooLarge, Err: fmt.Errorf("more than the %d bytes that this box takes: give it more memory", large.Limit)}
	}
	for _, r := range carryRefusals {
		if errors.Is(err, r.err) {
			return &zkadmin.Refusal{Status: r.status, Err: err}
		}
	}
	return err
}

// spooled is a file on its way.
type spooled struct {
	fs   vfs.FS
	name string
	f    vfs.File
	end  func() // called once it is dropped; nil: nothing
}

func (c *carrier) spool(name string) (*spooled, error) {
	s := &spooled{fs: c.n.deps.FS, name: path.Join(c.dir, name)}
	f, err := s.fs.Open(s.name, vfs.Create)
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", s.name, err)
	}
	s.f = f
	return s, nil
}

func (s *spooled) reader() (*io.SectionReader, error) {
	size, err := s.f.Size()
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", s.name, err)
	}
	return io.NewSectionReader(s.f, 0, size), nil
}

// drop removes the file.
func (s *spooled) drop() error {
	err := errors.Join(s.f.Close(), s.fs.Remove(s.name))
	if s.end != nil {
		s.end()
	}
	return err
}

// Close implements io.Closer for who reads the file.
func (s *spooled) Close() error { return s.drop() }
