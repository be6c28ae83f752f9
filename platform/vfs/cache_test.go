package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watched counts what is open and mapped underneath a cache.
type watched struct {
	FS
	mu           sync.Mutex
	files, maps  int
	filesPeak    int
	opens, mmaps int
}

func (w *watched) count(files, maps int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files, w.maps = w.files+files, w.maps+maps
	w.filesPeak = max(w.filesPeak, w.files)
	w.opens, w.mmaps = w.opens+max(files, 0), w.mmaps+max(maps, 0)
}

func (w *watched) Open(name string, mode Mode) (File, error) {
	f, err := w.FS.Open(name, mode)
	if err != nil {
		return nil, err
	}
	w.count(1, 0)
	return &watchedFile{File: f, w: w}, nil
}

type watchedFile struct {
	File
	w *watched
}

func (f *watchedFile) Close() error {
	f.w.count(-1, 0)
	return f.File.Close()
}

func (f *watchedFile) Map(length int64) (Mapping, error) {
	m, err := f.File.Map(length)
	if err != nil {
		return nil, err
	}
	f.w.count(0, 1)
	return &watchedMapping{Mapping: m, w: f.w}, nil
}

type watchedMapping struct {
	Mapping
	w *watched
}

func (m *watchedMapping) Close() error {
	m.w.count(0, -1)
	return m.Mapping.Close()
}

func wantOpen(t *testing.T, c *Cache, w *watched, files, maps int) {
	t.Helper()
	s := c.Stats()
	if s.FilesOpen != files || w.files != files {
		t.Fatalf("%d files in the cache, %d open, want %d", s.FilesOpen, w.files, files)
	}
	if s.Mappings != maps || w.maps != maps {
		t.Fatalf("%d mappings in the cache, %d mapped, want %d", s.Mappings, w.maps, maps)
	}
}

func acquire(t *testing.T, c *Cache, fsys FS, name string, mode Mode) *Handle {
	t.Helper()
	h, err := c.Acquire(fsys, name, mode)
	must(t, err)
	return h
}

func TestCacheKeepsTheLastUsed(t *testing.T) {
	w := &watched{FS: NewMem()}
	c := NewCache(CacheConfig{FilesMax: 2, MappingsMax: 1})
	touch := func(name string) {
		h := acquire(t, c, w, name, Create)
		_, err := h.Mapping(10)
		must(t, err)
		h.Release()
		h.Release()
	}
	touch("a")
	touch("b")
	wantOpen(t, c, w, 2, 1)
	touch("a")
	touch("c") // b goes
	wantOpen(t, c, w, 2, 1)
	opens := w.opens
	touch("a")
	touch("c")
	if w.opens != opens {
		t.Fatal("what was used last was closed")
	}
	touch("b")
	if w.opens != opens+1 {
		t.Fatal("what was used least recently was not closed")
	}
	s := c.Stats()
	if s.FilesInUse != 0 || s.Opens != 4 || s.Hits != 3 || s.Evictions != 2 {
		t.Fatalf("%+v", s)
	}
	c.Close()
	wantOpen(t, c, w, 0, 0)
	_, err := c.Acquire(w, "a", ReadOnly)
	wantErr(t, err, fs.ErrClosed)
}

func TestCacheKeepsWhatIsInUse(t *testing.T) {
	w := &watched{FS: NewMem()}
	c := NewCache(CacheConfig{FilesMax: 2, MappingsMax: 1, InUseMax: 3})
	var handles []*Handle
	for i := range 3 {
		h := acquire(t, c, w, fmt.Sprint(i), Create)
		_, err := h.Mapping(1)
		must(t, err)
		handles = append(handles, h)
	}
	wantOpen(t, c, w, 3, 3)
	_, err := c.Acquire(w, "3", Create)
	wantErr(t, err, ErrCacheFull)
	again := acquire(t, c, w, "0", ReadOnly) // one more handle of an open file is no file more
	if again.File() != handles[0].File() {
		t.Fatal("opened twice")
	}
	again.Release()
	for _, h := range handles {
		h.Release()
	}
	wantOpen(t, c, w, 2, 1)
	acquire(t, c, w, "3", Create).Release()
}

func TestCacheForget(t *testing.T) {
	w := &watched{FS: NewMem()}
	c := NewCache(CacheConfig{FilesMax: 10, MappingsMax: 10})
	must(t, w.MkdirAll("d"))
	old := acquire(t, c, w, "d/a", Create)
	put(t, old.File(), "old", 0)
	mapping, err := old.Mapping(3)
	must(t, err)
	must(t, w.Remove("d/a"))
	c.Forget(w, "d/a")
	_, err = c.Acquire(w, "d/a", ReadWrite)
	wantErr(t, err, ErrNotExist)
	fresh := acquire(t, c, w, "d/a", CreateNew)
	put(t, fresh.File(), "new", 0)
	wantMapped(t, mapping, 0, "old")
	wantOpen(t, c, w, 2, 1)
	old.Release()
	wantOpen(t, c, w, 1, 0)
	fresh.Release()
	wantOpen(t, c, w, 1, 0)

	_, err = c.Acquire(w, "d/a", CreateNew)
	wantErr(t, err, ErrExist)
	acquire(t, c, w, "d2", Create).Release()
	must(t, w.Rename("d", "e"))
	c.ForgetTree(w, "d")
	wantOpen(t, c, w, 1, 0) // d2 stays
	h := acquire(t, c, w, "e/a", ReadOnly)
	b := make([]byte, 3)
	if _, err := h.File().ReadAt(b, 0); err != nil || string(b) != "new" {
		t.Fatalf("%q, %v", b, err)
	}
	c.Close()
	wantOpen(t, c, w, 1, 0)
	h.Release()
	wantOpen(t, c, w, 0, 0)
}

func TestCacheOpensForWritingWhenAsked(t *testing.T) {
	w := &watched{FS: NewMem()}
	must(t, open(t, w, "a", Create).Close())
	c := NewCache(CacheConfig{FilesMax: 10, MappingsMax: 10})
	reader := acquire(t, c, w, "a", ReadOnly)
	writer := acquire(t, c, w, "a", ReadWrite)
	put(t, writer.File(), "x", 0)
	_, err := reader.File().WriteAt([]byte("y"), 0)
	wantErr(t, err, syscall.EBADF)
	second := acquire(t, c, w, "a", ReadOnly)
	if second.File() != writer.File() {
		t.Error("a reader did not share the file that is open for writing")
	}
	for _, h := range []*Handle{reader, writer, second} {
		h.Release()
	}
	wantOpen(t, c, w, 1, 0)
}

func TestCacheMappingGrows(t *testing.T) {
	w := &watched{FS: NewMem()}
	c := NewCache(CacheConfig{FilesMax: 10, MappingsMax: 10})
	h := acquire(t, c, w, "a", Create)
	put(t, h.File(), "0123456789", 0)
	other := acquire(t, c, w, "a", ReadOnly)
	short, err := h.Mapping(4)
	must(t, err)
	same, err := other.Mapping(3)
	must(t, err)
	if same != short {
		t.Error("mapped twice")
	}
	must(t, same.Close()) // does nothing: it is not the user's
	long, err := h.Mapping(10)
	must(t, err)
	wantMapped(t, long, 0, "0123456789")
	wantMapped(t, same, 0, "0123")
	wantOpen(t, c, w, 1, 2)
	other.Release()
	wantOpen(t, c, w, 1, 1)
	h.Release()
	wantOpen(t, c, w, 1, 1)
	if s := c.Stats(); s.MappingOpens != 2 || s.MappingHits != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestCacheErrorsAreNotKept(t *testing.T) {
	plan := NewPlan(Fault{Ops: OpOpen}, Fault{Ops: OpMap})
	w := &watched{FS: WithErrors(NewMem(), plan)}
	c := NewCache(CacheConfig{FilesMax: 10, MappingsMax: 10})
	_, err := c.Acquire(w, "a", Create)
	wantErr(t, err, syscall.EIO)
	wantOpen(t, c, w, 0, 0)
	h := acquire(t, c, w, "a", Create)
	_, err = h.Mapping(1)
	wantErr(t, err, syscall.EIO)
	_, err = h.Mapping(1)
	must(t, err)
	h.Release()
	wantOpen(t, c, w, 1, 1)
}

// Many goroutines use, forget and create; every handle sees the file that it acquired, and at the end nothing is left.
func TestCacheConcurrent(t *testing.T) {
	w := &watched{FS: NewMem()}
	c := NewCache(CacheConfig{FilesMax: 3, MappingsMax: 2, InUseMax: 100})
	for i := range 8 {
		f := open(t, w, fmt.Sprint(i), Create)
		put(t, f, fmt.Sprint(i), 0)
		must(t, f.Close())
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			for range 500 {
				name := fmt.Sprint(rng.IntN(8))
				h, err := c.Acquire(w, name, Mode(rng.IntN(2)))
				if err != nil {
					t.Error(err)
					return
				}
				if rng.IntN(8) == 0 {
					c.Forget(w, name)
				}
				m, err := h.Mapping(1 + rng.Int64N(3))
				if err != nil {
					t.Error(err)
				} else if err := m.Read(func(b []byte) {
					if string(b[:1]) != name {
						t.Errorf("%s reads %q", name, b[:1])
					}
				}); err != nil {
					t.Error(err)
				}
				h.Release()
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.FilesOpen > 3 || s.Mappings > 2 || s.FilesInUse != 0 {
		t.Errorf("%+v", s)
	}
	c.Close()
	wantOpen(t, c, w, 0, 0)
}

func BenchmarkCacheHit(b *testing.B) {
	m := NewMem()
	c := NewCache(CacheConfig{FilesMax: 10, MappingsMax: 10})
	b.ReportAllocs()
	for b.Loop() {
		h, err := c.Acquire(m, "a", Create)
		if err != nil {
			b.Fatal(err)
		}
		h.Release()
	}
}

// slowOpen lets opens without Create wait.
type slowOpen struct {
	FS
	begun, goOn chan struct{}
}

func (s *slowOpen) Open(name string, mode Mode) (File, error) {
	if mode != Create {
		close(s.begun)
		<-s.goOn
	}
	return s.FS.Open(name, mode)
}

// Who asks for a file to be made does not get the failure of another one, who asked at the same time for a file that is not
// there.
func TestCacheCreatesWhatAnotherDidNotFind(t *testing.T) {
	slow := &slowOpen{FS: NewMem(), begun: make(chan struct{}), goOn: make(chan struct{})}
	c := NewCache(CacheConfig{FilesMax: 4, MappingsMax: 1})
	failed, made := make(chan error), make(chan error)
	go func() {
		h, err := c.Acquire(slow, "/f", ReadWrite)
		if err == nil {
			h.Release()
		}
		failed <- err
	}()
	<-slow.begun
	go func() {
		h, err := c.Acquire(slow, "/f", Create)
		if err == nil {
			h.Release()
		}
		made <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); c.hits.Load() == 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	close(slow.goOn)
	if err := <-failed; !errors.Is(err, ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	if err := <-made; err != nil {
		t.Errorf("make it: %v", err)
	}
	c.Close()
	if _, err := c.Acquire(slow, "/f", Create); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if c.open != 0 {
		t.Errorf("%d files are open", c.open)
	}
}
