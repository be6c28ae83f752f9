package vfs

import (
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
)

// Op names kinds of operations; kinds are combined with |.
type Op uint32

const (
	OpOpen  Op = 1 << iota // Open with any mode
	OpRead                 // File.ReadAt
	OpWrite                // File.WriteAt
	OpSize                 // File.Size
	OpTruncate
	OpPreallocate
	OpSync    // File.Sync
	OpMap     // File.Map
	OpMapRead // Mapping.Read
	OpRename
	OpRemove
	OpMkdir
	OpList
	OpStat
	OpSyncDir
	OpLock
	OpUsage

	// OpMutate is everything that changes what is on the device or makes it durable.
	OpMutate = OpWrite | OpTruncate | OpPreallocate | OpSync | OpRename | OpRemove | OpMkdir | OpSyncDir
	// OpAll is every kind.
	OpAll = OpUsage<<1 - 1
)

// Fault is one thing that goes wrong.
type Fault struct {
	// Ops are the kinds that count and may fail; 0 means OpAll.
	Ops Op
	// Name restricts the fault to operations whose name contains it; of a rename, either name.
	Name string
	// Nth is the number, from 1, of the operation among those that fails; 0 means 1.
	Nth int
	// Sticky lets all later ones fail as well.
	Sticky bool
	// Err is what the caller gets; nil means an fs.PathError of EIO. Give ErrNoSpace for a full device, ErrFault with
	// OpMapRead.
	Err error
	// WritePrefix is how many bytes of a failing write reach the file nevertheless, at most all; -1 means half.
	WritePrefix int
	// TakesEffect does the whole operation before it fails, like a rename whose answer is lost.
	TakesEffect bool
}

// Plan counts operations and says which of them fail. It may be shared by several wrapped file systems.
type Plan struct {
	mu       sync.Mutex // protects all below; held for counting only
	faults   []Fault
	seen     []int // by fault: operations that it counted
	total    int
	injected int
}

// NewPlan returns a plan of faults. Without any it only counts, for a first run that says how many operations there are.
func NewPlan(faults ...Fault) *Plan {
	return &Plan{faults: faults, seen: make([]int, len(faults))}
}

// Operations is how many operations of all kinds there were.
func (p *Plan) Operations() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// Injected is how many operations were made to fail.
func (p *Plan) Injected() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.injected
}

// Arm adds a fault, which counts from now on.
func (p *Plan) Arm(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen = append(p.faults, f), append(p.seen, 0)
}

// Disarm ends all faults; counting goes on.
func (p *Plan) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen = nil, nil
}

// next counts an operation and returns the fault that is due, if any.
func (p *Plan) next(op Op, names ...string) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	var due *Fault
	for i := range p.faults {
		f := &p.faults[i]
		if !f.concerns(op, names) {
			continue
		}
		p.seen[i]++
		nth := max(f.Nth, 1)
		if due == nil && (p.seen[i] == nth || f.Sticky && p.seen[i] > nth) {
			due = f
		}
	}
	if due == nil {
		return nil
	}
	p.injected++
	fault := *due
	if fault.Err == nil {
		fault.Err = &fs.PathError{Op: op.String(), Path: names[0], Err: syscall.EIO}
	}
	return &fault
}

func (f *Fault) concerns(op Op, names []string) bool {
	if f.Ops != 0 && f.Ops&op == 0 {
		return false
	}
	for _, name := range names {
		if strings.Contains(name, f.Name) {
			return true
		}
	}
	return false
}

// run does one operation, or makes it fail.
func (p *Plan) run(op Op, do func() error, names ...string) error {
	fault := p.next(op, names...)
	if fault == nil {
		return do()
	}
	if fault.TakesEffect {
		if err := do(); err != nil {
			return err
		}
	}
	return fault.Err
}

// WithErrors wraps a file system so that the plan's operations fail. Close never fails. Its files have no Descriptor:
// what bypasses ReadAt could not be made to fail.
func WithErrors(inner FS, plan *Plan) FS { return &faultyFS{inner: inner, plan: plan} }

type faultyFS struct {
	inner FS
	plan  *Plan
}

// Open that fails after it took effect leaves the file created and closed.
func (f *faultyFS) Open(name string, mode Mode) (File, error) {
	var file File
	err := f.plan.run(OpOpen, func() (err error) {
		file, err = f.inner.Open(name, mode)
		return err
	}, name)
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return &faultyFile{File: file, plan: f.plan, name: name}, nil
}

func (f *faultyFS) Rename(oldname, newname string) error {
	return f.plan.run(OpRename, func() error { return f.inner.Rename(oldname, newname) }, oldname, newname)
}

func (f *faultyFS) Remove(name string) error {
	return f.plan.run(OpRemove, func() error { return f.inner.Remove(name) }, name)
}

func (f *faultyFS) MkdirAll(dir string) error {
	return f.plan.run(OpMkdir, func() error { return f.inner.MkdirAll(dir) }, dir)
}

func (f *faultyFS) List(dir string) (infos []Info, err error) {
	err = f.plan.run(OpList, func() (err error) {
		infos, err = f.inner.List(dir)
		return err
	}, dir)
	if err != nil {
		return nil, err
	}
	return infos, nil
}

func (f *faultyFS) Stat(name string) (info Info, err error) {
	err = f.plan.run(OpStat, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	}, name)
	return info, err
}

func (f *faultyFS) SyncDir(dir string) error {
	return f.plan.run(OpSyncDir, func() error { return f.inner.SyncDir(dir) }, dir)
}

func (f *faultyFS) Lock(name string) (io.Closer, error) {
	var lock io.Closer
	err := f.plan.run(OpLock, func() (err error) {
		lock, err = f.inner.Lock(name)
		return err
	}, name)
	if err != nil {
		if lock != nil {
			_ = lock.Close()
		}
		return nil, err
	}
	return lock, nil
}

func (f *faultyFS) Usage(dir string) (usage Usage, err error) {
	err = f.plan.run(OpUsage, func() (err error) {
		usage, err = f.inner.Usage(dir)
		return err
	}, dir)
	return usage, err
}

type faultyFile struct {
	File // Close goes through
	plan *Plan
	name string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.plan.run(OpRead, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	}, f.name)
	return n, err
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	fault := f.plan.next(OpWrite, f.name)
	if fault == nil {
		return f.File.WriteAt(p, off)
	}
	prefix := min(fault.WritePrefix, len(p))
	switch {
	case fault.TakesEffect:
		prefix = len(p)
	case fault.WritePrefix < 0:
		prefix = len(p) / 2
	}
	n, err := f.File.WriteAt(p[:prefix], off)
	if err != nil {
		return n, err
	}
	return n, fault.Err
}

func (f *faultyFile) Size() (size int64, err error) {
	err = f.plan.run(OpSize, func() (err error) {
		size, err = f.File.Size()
		return err
	}, f.name)
	return size, err
}

func (f *faultyFile) Truncate(size int64) error {
	return f.plan.run(OpTruncate, func() error { return f.File.Truncate(size) }, f.name)
}

func (f *faultyFile) Preallocate(offset, length int64) error {
	return f.plan.run(OpPreallocate, func() error { return f.File.Preallocate(offset, length) }, f.name)
}

func (f *faultyFile) Sync() error {
	return f.plan.run(OpSync, f.File.Sync, f.name)
}

func (f *faultyFile) Map(length int64) (Mapping, error) {
	var mapping Mapping
	err := f.plan.run(OpMap, func() (err error) {
		mapping, err = f.File.Map(length)
		return err
	}, f.name)
	if err != nil {
		if mapping != nil {
			_ = mapping.Close()
		}
		return nil, err
	}
	return &faultyMapping{Mapping: mapping, plan: f.plan, name: f.name}, nil
}

type faultyMapping struct {
	Mapping // Len and Close go through
	plan    *Plan
	name    string
}

func (m *faultyMapping) Read(f func(b []byte)) error {
	return m.plan.run(OpMapRead, func() error { return m.Mapping.Read(f) }, m.name)
}

var opNames = [...]string{
	"open", "read", "write", "size", "truncate", "preallocate", "sync", "map", "read mapping", "rename", "remove",
	"mkdir", "list", "stat", "sync directory", "lock", "usage",
}

// String joins the names of the kinds with |.
func (op Op) String() string {
	var names []string
	for i, name := range opNames {
		if op&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}
