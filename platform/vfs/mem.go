package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrCrashed is what every operation returns after the power of a memory file system went off.
var ErrCrashed = errors.New("power is off")

// unlimitedTotal is what Usage says of a device without a capacity.
const unlimitedTotal = 1 << 40

// defaultDevice is the device of directories that SetDevice did not name.
const defaultDevice = 1

// Mem is a file system in memory that remembers what was made durable, so that a power cut can be played at any moment:
//
//   - bytes and length of a file are durable after File.Sync;
//   - a created, renamed or removed name is durable after SyncDir of its directory (a rename between two directories is
//     one journal transaction: both names change durably, or neither);
//   - of everything else any part may or may not be there after a power cut (Crash).
//
// Beyond the FS interface it has hooks for tests. Errors are those of Linux. A file may have a size of at most
// memFileMax. Everything that was written and not synced is kept twice.
type Mem struct {
	// mu protects everything below and all nodes. It is never held while a caller's function runs.
	mu      sync.Mutex
	root    *memNode
	nextID  uint64 // of nodes and of journal transactions: what makes a crash deterministic
	devices map[uint64]*memDevice
	mounts  map[string]uint64 // clean directory → device
	syncs   int
	crashAt int // the sync at which power goes off; 0: never
	crashed bool
	onSync  func(n int, name string)
}

var _ FS = (*Mem)(nil)

// memDevice counts space in blocks of memBlock bytes.
type memDevice struct {
	id       uint64
	capacity uint64 // bytes; 0: unlimited
	used     uint64 // bytes
}

// NewMem returns an empty memory file system: a root directory on device 1 without a capacity. Names are taken from the
// root, with or without a leading slash.
func NewMem() *Mem {
	m := &Mem{devices: map[uint64]*memDevice{}, mounts: map[string]uint64{"/": defaultDevice}}
	m.root = m.newNode(true, m.device(defaultDevice))
	return m
}

// SetDevice puts everything that is later created at or under dir on the given device. Rename between devices fails.
func (m *Mem) SetDevice(dir string, device uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mounts[cleanName(dir)] = device
	m.device(device)
}

// SetCapacity limits a device to so many bytes, in blocks of 4096, preallocated ones included; 0 lifts the limit. It may
// be changed at any time; below what is in use, every write that needs a block fails with ErrNoSpace.
func (m *Mem) SetCapacity(device, bytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.device(device).capacity = bytes
}

// Syncs is how many syncs (File.Sync and SyncDir) were asked for, the one at which the power went off included.
func (m *Mem) Syncs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.syncs
}

// OnSync has f called before each sync takes effect, with its number (from 1) and name. f may use the file system, except
// that a sync inside f calls f again.
func (m *Mem) OnSync(f func(n int, name string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSync = f
}

// CrashAtSync turns the power off at the n-th sync (Syncs counts from 1), before it has any effect: that sync and all
// operations after it return ErrCrashed. What the machine finds later is then made by Crash, CrashStrict or CrashAll.
func (m *Mem) CrashAtSync(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashAt = n
}

// PowerOff turns the power off now: all operations from here on return ErrCrashed, and the state stays as it is.
func (m *Mem) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
}

// Crashed says whether the power is off.
func (m *Mem) Crashed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed
}

// Open opens a file; directories are refused with EISDIR.
func (m *Mem) Open(name string, mode Mode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.open(name, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	node.opens++
	return &memFile{m: m, node: node, name: name, writable: mode != ReadOnly}, nil
}

func (m *Mem) open(name string, mode Mode) (*memNode, error) {
	if m.crashed {
		return nil, ErrCrashed
	}
	if mode < ReadOnly || mode > CreateNew {
		return nil, fmt.Errorf("mode %d: %w", mode, fs.ErrInvalid)
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	node := dir.names[base]
	switch {
	case base == "":
		return nil, syscall.EISDIR
	case node != nil && mode == CreateNew:
		return nil, syscall.EEXIST
	case node != nil && node.dir:
		return nil, syscall.EISDIR
	case node != nil:
		return node, nil
	case mode == Create || mode == CreateNew:
		return m.create(dir, base, name, false), nil
	default:
		return nil, syscall.ENOENT
	}
}

// create makes a node and its name, which is not durable yet.
func (m *Mem) create(dir *memNode, base, name string, isDir bool) *memNode {
	node := m.newNode(isDir, m.deviceOf(cleanName(name)))
	dir.change(nameOp{added: base, node: node})
	return node
}

// Rename has the rules of os.Rename: it replaces a file and refuses to replace a directory.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldname, newname); err != nil {
		return &fs.PathError{Op: "rename", Path: oldname, Err: fmt.Errorf("to %s: %w", newname, err)}
	}
	return nil
}

func (m *Mem) rename(oldname, newname string) error {
	if m.crashed {
		return ErrCrashed
	}
	oldDir, oldBase, err := m.parent(oldname)
	if err != nil {
		return err
	}
	newDir, newBase, err := m.parent(newname)
	if err != nil {
		return err
	}
	node, replaced := oldDir.names[oldBase], newDir.names[newBase]
	from, to := cleanName(oldname), cleanName(newname)
	switch {
	case oldBase == "" || newBase == "":
		return syscall.EBUSY
	case node == nil:
		return syscall.ENOENT
	case replaced != nil && replaced.dir:
		return syscall.EEXIST
	case replaced != nil && node.dir:
		return syscall.ENOTDIR
	case node == replaced:
		return nil
	case strings.HasPrefix(to, from+"/"):
		return syscall.EINVAL
	case m.deviceOf(to) != node.device:
		return syscall.EXDEV
	}
	if oldDir == newDir {
		oldDir.change(nameOp{removed: oldBase, added: newBase, node: node})
	} else {
		m.nextID++
		newDir.change(nameOp{added: newBase, node: node, peer: oldDir, transaction: m.nextID})
		oldDir.change(nameOp{removed: oldBase, peer: newDir, transaction: m.nextID})
	}
	if replaced != nil {
		replaced.unlinked = true
		replaced.free()
	}
	return nil
}

// Remove unlinks a file, which open files and mappings keep, or an empty directory.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.remove(name); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func (m *Mem) remove(name string) error {
	if m.crashed {
		return ErrCrashed
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return err
	}
	node := dir.names[base]
	switch {
	case base == "":
		return syscall.EBUSY
	case node == nil:
		return syscall.ENOENT
	case node.dir && len(node.names) > 0:
		return syscall.ENOTEMPTY
	}
	dir.change(nameOp{removed: base})
	node.unlinked = true
	node.free()
	return nil
}

// MkdirAll makes the directory and those above it. Each new name is durable after SyncDir of the directory that holds it.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: ErrCrashed}
	}
	at, name := m.root, ""
	for _, base := range splitName(dir) {
		name += "/" + base
		next := at.names[base]
		if next == nil {
			next = m.create(at, base, name, true)
		}
		if !next.dir {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		at = next
	}
	return nil
}

func (m *Mem) List(dir string) ([]Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.look(dir)
	if err == nil && !node.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: err}
	}
	infos := make([]Info, 0, len(node.names))
	for _, base := range slices.Sorted(maps.Keys(node.names)) {
		infos = append(infos, node.names[base].info(base))
	}
	return infos, nil
}

func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.look(name)
	if err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return node.info(path.Base(cleanName(name))), nil
}

func (m *Mem) SyncDir(dir string) error {
	err := m.sync(dir, func() error {
		node, err := m.look(dir)
		if err != nil {
			return err
		}
		if !node.dir {
			return syscall.ENOTDIR
		}
		node.commitNames(len(node.pendingNames))
		return nil
	})
	if err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}

// sync counts a sync, plays the crash that is due at it, and has its effect.
func (m *Mem) sync(name string, effect func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return ErrCrashed
	}
	m.syncs++
	if m.syncs == m.crashAt {
		m.crashed = true
		return ErrCrashed
	}
	if hook, n := m.onSync, m.syncs; hook != nil {
		m.mu.Unlock()
		hook(n, name)
		m.mu.Lock()
		if m.crashed {
			return ErrCrashed
		}
	}
	return effect()
}

// Lock is refused while another lock of this Mem is held on the file. A crash releases it.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.open(name, Create)
	if err == nil && node.locked {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	node.locked = true
	node.opens++
	return &memLock{m: m, node: node}, nil
}

type memLock struct {
	m    *Mem
	node *memNode // nil once released
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.node == nil {
		return fs.ErrClosed
	}
	l.node.locked = false
	l.node.opens--
	l.node.free()
	l.node = nil
	return nil
}

func (m *Mem) Usage(dir string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.look(dir)
	if err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	d := node.device
	u := Usage{Total: unlimitedTotal, Device: d.id}
	if d.capacity > 0 {
		u.Total = d.capacity
	}
	u.Free = u.Total - min(u.Total, d.used)
	return u, nil
}

func (m *Mem) newNode(isDir bool, d *memDevice) *memNode {
	m.nextID++
	n := &memNode{id: m.nextID, dir: isDir, device: d}
	if isDir {
		n.names, n.durable = map[string]*memNode{}, map[string]*memNode{}
	}
	return n
}

func (m *Mem) device(id uint64) *memDevice {
	d := m.devices[id]
	if d == nil {
		d = &memDevice{id: id}
		m.devices[id] = d
	}
	return d
}

// deviceOf is the device of the nearest directory at or above a clean name that SetDevice named.
func (m *Mem) deviceOf(clean string) *memDevice {
	for {
		if id, ok := m.mounts[clean]; ok {
			return m.devices[id]
		}
		clean = path.Dir(clean)
	}
}

// look finds the node of a name.
func (m *Mem) look(name string) (*memNode, error) {
	if m.crashed {
		return nil, ErrCrashed
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return dir, nil
	}
	if node := dir.names[base]; node != nil {
		return node, nil
	}
	return nil, syscall.ENOENT
}

// parent finds the directory that holds the name's last element. The root's is the root, with an empty base.
func (m *Mem) parent(name string) (dir *memNode, base string, err error) {
	elements := splitName(name)
	if len(elements) == 0 {
		return m.root, "", nil
	}
	last := len(elements) - 1
	at := m.root
	for _, e := range elements[:last] {
		next := at.names[e]
		if next == nil {
			return nil, "", syscall.ENOENT
		}
		if !next.dir {
			return nil, "", syscall.ENOTDIR
		}
		at = next
	}
	return at, elements[last], nil
}

func cleanName(name string) string { return path.Clean("/" + name) }

func splitName(name string) []string {
	clean := cleanName(name)
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}
