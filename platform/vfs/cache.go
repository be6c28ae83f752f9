package vfs

import (
	"container/list"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
)

// CacheConfig bounds a Cache.
type CacheConfig struct {
	// FilesMax is how many files stay open. Files in use (acquired, not released) are never closed, so more are open for as
	// long as more are in use; they are closed as they are released. More saves open(2) calls and costs descriptors.
	FilesMax int
	// MappingsMax is the same for mappings. More saves mmap(2) calls and page faults and costs address space, which
	// 32-bit systems have little of.
	MappingsMax int
	// InUseMax is how many files may be in use at the same time, a backstop below the descriptor limit: Acquire of one
	// more fails with ErrCacheFull. 0 means 8 times FilesMax.
	InUseMax int
}

// ErrCacheFull is returned by Acquire when as many files as are allowed are in use.
var ErrCacheFull = fmt.Errorf("too many files in use")

// Cache keeps the most recently used files and mappings open, so that rooms with very many files hold names, acquire a
// handle for each operation, and idle files cost nothing. All methods may be called from any goroutine; system calls
// run without the lock, so a slow device holds up only those who want that file.
//
// A writer keeps its handle from the first write that is not synced until Sync returned. The kernel reports a failed
// write-back to files that were open when it failed; if nobody held the inode, nobody hears of the loss.
//
// Names are keys as they are spelled. The FS must be comparable (a pointer or an empty struct, as all of this package).
type Cache struct {
	cfg CacheConfig

	// mu protects the maps, the lists and all fields of entries but those said otherwise. It is held over no system call.
	mu       sync.Mutex
	closed   bool
	entries  map[cacheKey]*cacheEntry
	idle     *list.List // of *cacheEntry without handles, least recently used first
	idleMaps *list.List // of *cacheMapping without handles, least recently used first
	open     int        // files that are open or being opened
	maps     int        // mappings that exist

	hits, opens, evictions, mapHits, mapOpens, mapEvictions atomic.Uint64
}

type cacheKey struct {
	fs   FS
	name string
}

// cacheEntry is one open file. It is in the map until it is evicted or forgotten; then it lives until its last handle is
// released.
type cacheEntry struct {
	key      cacheKey
	writable bool
	ready    chan struct{} // closed when file and err are set; they do not change after
	file     File
	err      error
	handles  int
	detached bool          // not in the map
	place    *list.Element // in Cache.idle when handles is 0 and it is not detached
	mapping  *cacheMapping // the newest, longest one
}

// cacheMapping is one mapping of an entry's file.
type cacheMapping struct {
	Mapping
	entry    *cacheEntry
	handles  int
	detached bool          // not the entry's any more
	place    *list.Element // in Cache.idleMaps when handles is 0 and it is not detached
}

// NewCache returns an empty cache. Bounds below 1 are taken as 1.
func NewCache(cfg CacheConfig) *Cache {
	cfg.FilesMax = max(cfg.FilesMax, 1)
	cfg.MappingsMax = max(cfg.MappingsMax, 1)
	if cfg.InUseMax <= 0 {
		cfg.InUseMax = 8 * cfg.FilesMax
	}
	return &Cache{cfg: cfg, entries: map[cacheKey]*cacheEntry{}, idle: list.New(), idleMaps: list.New()}
}

// Handle is the use of one open file. It belongs to one goroutine at a time.
type Handle struct {
	c       *Cache
	entry   *cacheEntry // nil once released
	mapping *cacheMapping
}

// Acquire returns a handle on the open file, opening it if it is not. Create makes it if it is not there; CreateNew
// always asks the file system, so an existing name is ErrExist. A file that was unlinked or replaced after Acquire stays
// the same file for this handle. Errors are those of Open, ErrCacheFull, and fs.ErrClosed after Close.
func (c *Cache) Acquire(fsys FS, name string, mode Mode) (*Handle, error) {
	key := cacheKey{fs: fsys, name: name}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, &fs.PathError{Op: "acquire", Path: name, Err: fs.ErrClosed}
	}
	e := c.entries[key]
	if e == nil || mode == CreateNew || mode != ReadOnly && !e.writable {
		return c.openLocked(key, mode)
	}
	if e.handles == 0 && !c.roomLocked() {
		c.mu.Unlock()
		return nil, &fs.PathError{Op: "acquire", Path: name, Err: ErrCacheFull}
	}
	c.hits.Add(1)
	c.useLocked(e)
	c.mu.Unlock()
	<-e.ready
	if e.err == nil {
		return &Handle{c: c, entry: e}, nil
	}
	c.releaseEntry(e)
	c.mu.Lock()
	if mode != Create || c.closed {
		c.mu.Unlock()
		return nil, e.err
	}
	return c.openLocked(key, mode) // the other one may not have asked for the file to be made
}

// roomLocked says whether one more file may come into use.
func (c *Cache) roomLocked() bool { return c.open-c.idle.Len() < c.cfg.InUseMax }

// useLocked adds a handle to an entry.
func (c *Cache) useLocked(e *cacheEntry) {
	e.handles++
	if e.place != nil {
		c.idle.Remove(e.place)
		e.place = nil
	}
}

// openLocked opens a file and makes it the entry of its key; an entry that is there already (opened for reading only, or
// gone from the file system) is left to its handles. It is called with the lock held and returns without.
func (c *Cache) openLocked(key cacheKey, mode Mode) (*Handle, error) {
	if !c.roomLocked() {
		c.mu.Unlock()
		return nil, &fs.PathError{Op: "acquire", Path: key.name, Err: ErrCacheFull}
	}
	e := &cacheEntry{key: key, writable: mode != ReadOnly, ready: make(chan struct{}), handles: 1}
	var drop garbage
	if mode == CreateNew {
		// Not to be found before it is known to be new: others keep what they have.
		e.detached = true
	} else {
		c.detachLocked(c.entries[key], &drop)
		c.entries[key] = e
	}
	c.open++
	c.trimLocked(&drop)
	c.mu.Unlock()
	drop.close()

	e.file, e.err = key.fs.Open(key.name, mode)
	close(e.ready)
	if e.err != nil {
		c.releaseEntry(e)
		return nil, e.err
	}
	c.opens.Add(1)
	if mode == CreateNew {
		c.publish(e)
	}
	return &Handle{c: c, entry: e}, nil
}

// publish makes a newly created file the entry of its key.
func (c *Cache) publish(e *cacheEntry) {
	var drop garbage
	c.mu.Lock()
	if !c.closed {
		c.detachLocked(c.entries[e.key], &drop)
		c.entries[e.key], e.detached = e, false
	}
	c.mu.Unlock()
	drop.close()
}

// Forget is called after the name was removed, renamed or replaced: the next Acquire opens what is there then. Handles
// that are out keep the file until they are released.
func (c *Cache) Forget(fsys FS, name string) {
	var drop garbage
	c.mu.Lock()
	c.detachLocked(c.entries[cacheKey{fs: fsys, name: name}], &drop)
	c.mu.Unlock()
	drop.close()
}

// ForgetTree is Forget for all names below a directory.
func (c *Cache) ForgetTree(fsys FS, dir string) {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	c.forgetAll(func(key cacheKey) bool { return key.fs == fsys && strings.HasPrefix(key.name, prefix) })
}

func (c *Cache) forgetAll(which func(cacheKey) bool) {
	var drop garbage
	c.mu.Lock()
	for key, e := range c.entries {
		if which(key) {
			c.detachLocked(e, &drop)
		}
	}
	c.mu.Unlock()
	drop.close()
}

// Close closes what nobody uses; the rest is closed as it is released. Acquire fails from here on.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.forgetAll(func(cacheKey) bool { return true })
}

// File is the open file; it is valid until Release.
func (h *Handle) File() File { return h.entry.file }

// Mapping returns a mapping of at least length bytes, the cached one if it is long enough. It is valid until Release or
// the next call of Mapping on this handle; the caller does not close it. A file that grew is mapped anew when a greater
// length is asked for.
func (h *Handle) Mapping(length int64) (Mapping, error) {
	c := h.c
	if h.mapping != nil && h.mapping.Len() >= length {
		return h.mapping, nil
	}
	c.mu.Lock()
	if m := h.entry.mapping; m != nil && m.Len() >= length {
		c.mapHits.Add(1)
		return c.takeLocked(h, m), nil
	}
	c.mu.Unlock()

	mapped, err := h.entry.file.Map(length)
	if err != nil {
		return nil, err
	}
	c.mapOpens.Add(1)
	c.mu.Lock()
	c.maps++
	m := &cacheMapping{Mapping: mapped, entry: h.entry, detached: true}
	if newest := h.entry.mapping; newest == nil || newest.Len() < length {
		var drop garbage
		c.detachMappingLocked(h.entry, &drop)
		h.entry.mapping, m.detached = m, false
		defer drop.close()
	}
	return c.takeLocked(h, m), nil
}

// takeLocked gives the handle a mapping in place of the one it had. It is called with the lock held and returns without.
func (c *Cache) takeLocked(h *Handle, m *cacheMapping) Mapping {
	var drop garbage
	m.handles++
	if m.place != nil {
		c.idleMaps.Remove(m.place)
		m.place = nil
	}
	c.releaseMappingLocked(h, &drop)
	h.mapping = m
	c.trimLocked(&drop)
	c.mu.Unlock()
	drop.close()
	return m
}

// Close does nothing: a mapping that others may have too is closed by the cache alone.
func (*cacheMapping) Close() error { return nil }

// Release ends the use. A second Release does nothing.
func (h *Handle) Release() {
	if h.entry == nil {
		return
	}
	e := h.entry
	if h.mapping != nil {
		var drop garbage
		h.c.mu.Lock()
		h.c.releaseMappingLocked(h, &drop)
		h.c.mu.Unlock()
		drop.close()
	}
	h.entry = nil
	h.c.releaseEntry(e)
}

func (c *Cache) releaseMappingLocked(h *Handle, drop *garbage) {
	m := h.mapping
	if m == nil {
		return
	}
	h.mapping = nil
	m.handles--
	if m.handles > 0 {
		return
	}
	if m.detached {
		c.maps--
		drop.mappings = append(drop.mappings, m.Mapping)
		return
	}
	m.place = c.idleMaps.PushBack(m)
	c.trimLocked(drop)
}

func (c *Cache) releaseEntry(e *cacheEntry) {
	var drop garbage
	c.mu.Lock()
	e.handles--
	if e.err != nil {
		// Nothing was opened: the next Acquire tries again.
		c.detachLocked(e, &drop)
	}
	if e.handles == 0 {
		if e.detached {
			c.dropLocked(e, &drop)
		} else {
			e.place = c.idle.PushBack(e)
			c.trimLocked(&drop)
		}
	}
	c.mu.Unlock()
	drop.close()
}

// trimLocked evicts what is used least recently, down to the bounds.
func (c *Cache) trimLocked(drop *garbage) {
	for c.maps > c.cfg.MappingsMax && c.idleMaps.Len() > 0 {
		c.mapEvictions.Add(1)
		c.detachMappingLocked(c.idleMaps.Front().Value.(*cacheMapping).entry, drop)
	}
	for c.open > c.cfg.FilesMax && c.idle.Len() > 0 {
		c.evictions.Add(1)
		c.detachLocked(c.idle.Front().Value.(*cacheEntry), drop)
	}
}

// detachLocked takes an entry out of the map; without handles that is its end.
func (c *Cache) detachLocked(e *cacheEntry, drop *garbage) {
	if e == nil || e.detached {
		return
	}
	e.detached = true
	delete(c.entries, e.key)
	if e.place != nil {
		c.idle.Remove(e.place)
		e.place = nil
		c.dropLocked(e, drop)
	}
}

// dropLocked ends an entry that is in no map and has no handles.
func (c *Cache) dropLocked(e *cacheEntry, drop *garbage) {
	c.open--
	c.detachMappingLocked(e, drop)
	if e.file != nil {
		drop.files = append(drop.files, e.file)
	}
}

// detachMappingLocked takes the entry's mapping from it; without handles that is its end.
func (c *Cache) detachMappingLocked(e *cacheEntry, drop *garbage) {
	m := e.mapping
	if m == nil {
		return
	}
	e.mapping, m.detached = nil, true
	if m.place != nil {
		c.idleMaps.Remove(m.place)
		m.place = nil
		c.maps--
		drop.mappings = append(drop.mappings, m.Mapping)
	}
}

// garbage is what has to be closed once the lock is given back.
type garbage struct {
	files    []File
	mappings []Mapping
}

// close ignores errors: what was written is vouched for by Sync, and nothing else can be lost by a close.
func (g *garbage) close() {
	for _, m := range g.mappings {
		_ = m.Close()
	}
	for _, f := range g.files {
		_ = f.Close()
	}
}

// CacheStats are counts for metrics: what there is, and what happened since the start.
type CacheStats struct {
	FilesOpen, FilesInUse, Mappings         int
	Hits, Opens, Evictions                  uint64
	MappingHits, MappingOpens, MapEvictions uint64
}

// Stats returns the counts of this moment.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{
		FilesOpen: c.open, FilesInUse: c.open - c.idle.Len(), Mappings: c.maps,
		Hits: c.hits.Load(), Opens: c.opens.Load(), Evictions: c.evictions.Load(),
		MappingHits: c.mapHits.Load(), MappingOpens: c.mapOpens.Load(), MapEvictions: c.mapEvictions.Load(),
	}
}
