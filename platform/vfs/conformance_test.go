package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"testing"
)

// TestConformance runs one script on every file system, so that what passes in memory passes on a device.
func TestConformance(t *testing.T) {
	systems := map[string]func(t *testing.T) (FS, string){
		"os":   func(t *testing.T) (FS, string) { return OS(), t.TempDir() },
		"mem":  func(*testing.T) (FS, string) { return NewMem(), "/" },
		"wrap": func(*testing.T) (FS, string) { return WithErrors(NewMem(), NewPlan()), "/" },
	}
	scripts := map[string]func(t *testing.T, fsys FS, root string){
		"open modes": scriptOpen, "read and write": scriptReadWrite, "truncate": scriptTruncate,
		"names": scriptNames, "unlinked": scriptUnlinked, "mapping": scriptMapping, "lock": scriptLock,
		"closed": scriptClosed, "preallocate": scriptPreallocate,
	}
	for system, make := range systems {
		for script, run := range scripts {
			t.Run(system+"/"+script, func(t *testing.T) {
				fsys, root := make(t)
				run(t, fsys, root)
			})
		}
	}
}

func scriptOpen(t *testing.T, fsys FS, root string) {
	name := path.Join(root, "a")
	for _, mode := range []Mode{ReadOnly, ReadWrite} {
		_, err := fsys.Open(name, mode)
		wantErr(t, err, ErrNotExist)
	}
	must(t, open(t, fsys, name, CreateNew).Close())
	_, err := fsys.Open(name, CreateNew)
	wantErr(t, err, ErrExist)
	put(t, open(t, fsys, name, Create), "kept", 0)
	wantContent(t, fsys, name, "kept")

	f := open(t, fsys, name, ReadOnly)
	_, err = f.WriteAt([]byte("x"), 0)
	wantErr(t, err, syscall.EBADF)
	wantErr(t, f.Truncate(0), syscall.EINVAL)
	wantErr(t, f.Preallocate(0, 1), syscall.EBADF)

	must(t, fsys.MkdirAll(path.Join(root, "d/e")))
	for _, mode := range []Mode{ReadOnly, ReadWrite, Create} {
		_, err = fsys.Open(path.Join(root, "d"), mode)
		wantErr(t, err, syscall.EISDIR)
	}
	_, err = fsys.Open(path.Join(name, "below a file"), Create)
	wantErr(t, err, syscall.ENOTDIR)
	_, err = fsys.Open(path.Join(root, "no/such"), Create)
	wantErr(t, err, ErrNotExist)
	_, err = fsys.Open(name, Mode(9))
	wantErr(t, err, fs.ErrInvalid)
}

func scriptReadWrite(t *testing.T, fsys FS, root string) {
	name := path.Join(root, "a")
	f := open(t, fsys, name, Create)
	put(t, f, "hello", 3)
	wantContent(t, fsys, name, "\x00\x00\x00hello")
	put(t, f, "J", 3)
	put(t, f, "", 100)
	wantContent(t, fsys, name, "\x00\x00\x00Jello")

	b := make([]byte, 4)
	n, err := f.ReadAt(b, 6)
	if n != 2 || !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt across the end: %d, %v", n, err)
	}
	n, err = f.ReadAt(b, 4)
	if n != 4 || err != nil || string(b) != "ello" {
		t.Fatalf("ReadAt to the end: %d, %v, %q", n, err, b)
	}
	n, err = f.ReadAt(b, 1000)
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt beyond: %d, %v", n, err)
	}
	if _, err = f.ReadAt(b, -1); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt at -1: %v", err)
	}
	if _, err = f.WriteAt(b, -1); err == nil {
		t.Fatal("WriteAt at -1 worked")
	}
	must(t, f.Sync())
	must(t, fsys.SyncDir(root))
}

func scriptTruncate(t *testing.T, fsys FS, root string) {
	name := path.Join(root, "a")
	f := open(t, fsys, name, Create)
	put(t, f, "0123456789", 0)
	must(t, f.Truncate(4))
	wantContent(t, fsys, name, "0123")
	must(t, f.Truncate(6))
	wantContent(t, fsys, name, "0123\x00\x00")
	must(t, f.Truncate(5))
	put(t, f, "x", 7)
	wantContent(t, fsys, name, "0123\x00\x00\x00x")
	wantErr(t, f.Truncate(-1), syscall.EINVAL)
}

func scriptNames(t *testing.T, fsys FS, root string) {
	in := func(name string) string { return path.Join(root, name) }
	must(t, fsys.MkdirAll(in("d/e")))
	must(t, fsys.MkdirAll(in("d/e")))
	put(t, open(t, fsys, in("b"), Create), "bb", 0)
	put(t, open(t, fsys, in("a"), Create), "a", 0)
	put(t, open(t, fsys, in("d/e/f"), Create), "f", 0)
	wantErr(t, fsys.MkdirAll(in("a/x")), syscall.ENOTDIR)
	wantList(t, fsys, root, Info{Name: "a", Size: 1}, Info{Name: "b", Size: 2}, Info{Name: "d", IsDir: true})

	wantErr(t, fsys.Rename(in("none"), in("a")), ErrNotExist)
	wantErr(t, fsys.Rename(in("a"), in("d")), ErrExist)
	wantErr(t, fsys.Rename(in("d"), in("a")), syscall.ENOTDIR)
	wantErr(t, fsys.Rename(in("d"), in("d/e/g")), syscall.EINVAL)
	must(t, fsys.Rename(in("b"), in("b")))
	must(t, fsys.Rename(in("b"), in("a")))
	wantContent(t, fsys, in("a"), "bb")
	must(t, fsys.Rename(in("d"), in("c")))
	wantContent(t, fsys, in("c/e/f"), "f")
	must(t, fsys.Rename(in("c/e/f"), in("g")))
	wantContent(t, fsys, in("g"), "f")

	wantErr(t, fsys.Remove(in("c")), syscall.ENOTEMPTY)
	wantErr(t, fsys.Remove(in("b")), ErrNotExist)
	must(t, fsys.Remove(in("c/e")))
	must(t, fsys.Remove(in("c")))
	must(t, fsys.Remove(in("g")))
	wantList(t, fsys, root, Info{Name: "a", Size: 2})
	info, err := fsys.Stat(in("a"))
	must(t, err)
	if info != (Info{Name: "a", Size: 2}) {
		t.Fatalf("Stat: %+v", info)
	}
	_, err = fsys.Stat(in("c"))
	wantErr(t, err, ErrNotExist)
	_, err = fsys.List(in("c"))
	wantErr(t, err, ErrNotExist)
	wantErr(t, fsys.SyncDir(in("c")), ErrNotExist)
	usage, err := fsys.Usage(root)
	must(t, err)
	if usage.Total == 0 || usage.Free > usage.Total || usage.Device == 0 {
		t.Fatalf("Usage: %+v", usage)
	}
	_, err = fsys.Usage(in("c"))
	wantErr(t, err, ErrNotExist)
}

func scriptUnlinked(t *testing.T, fsys FS, root string) {
	name := path.Join(root, "a")
	f := open(t, fsys, name, Create)
	put(t, f, "old", 0)
	m, err := f.Map(3)
	must(t, err)
	must(t, fsys.Remove(name))
	put(t, open(t, fsys, name, CreateNew), "new", 0)
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "old" {
		t.Fatalf("unlinked file: %q, %v", b, err)
	}
	must(t, f.Close())
	wantMapped(t, m, 0, "old")
	must(t, m.Close())
	wantContent(t, fsys, name, "new")
}

func scriptMapping(t *testing.T, fsys FS, root string) {
	f := open(t, fsys, path.Join(root, "a"), Create)
	page := int64(syscall.Getpagesize())
	put(t, f, "abc", 0)
	m, err := f.Map(2 * page)
	must(t, err)
	if m.Len() != 2*page {
		t.Fatalf("Len is %d", m.Len())
	}
	wantMapped(t, m, 0, "abc\x00")
	put(t, f, "xyz", 2) // seen through the mapping
	wantMapped(t, m, 0, "abxyz\x00")
	if page == memBlock { // Mem's pages are of this size
		wantFault(t, m, page)
	}
	put(t, f, "grown", page)
	wantMapped(t, m, page, "grown")
	must(t, f.Truncate(1))
	if page == memBlock {
		wantFault(t, m, page)
	}
	wantMapped(t, m, 0, "a\x00\x00")

	// A panic of the reader's own comes through, and the mapping stays usable.
	func() {
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = m.Read(func([]byte) { panic("mine") })
	}()
	wantMapped(t, m, 0, "a")
	must(t, m.Close())
	wantErr(t, m.Read(func([]byte) { t.Error("read after Close") }), fs.ErrClosed)
	wantErr(t, m.Close(), fs.ErrClosed)

	empty, err := f.Map(0)
	must(t, err)
	must(t, empty.Read(func(b []byte) {
		if len(b) != 0 {
			t.Errorf("%d bytes in an empty mapping", len(b))
		}
	}))
	must(t, empty.Close())
	_, err = f.Map(-1)
	wantErr(t, err, fs.ErrInvalid)
}

func scriptLock(t *testing.T, fsys FS, root string) {
	name := path.Join(root, ".lock")
	lock, err := fsys.Lock(name)
	must(t, err)
	_, err = fsys.Lock(name)
	wantErr(t, err, ErrLocked)
	must(t, lock.Close())
	lock, err = fsys.Lock(name)
	must(t, err)
	must(t, lock.Close())
	if lock.Close() == nil {
		t.Fatal("second Close worked")
	}
}

func scriptClosed(t *testing.T, fsys FS, root string) {
	f := open(t, fsys, path.Join(root, "a"), Create)
	put(t, f, "abc", 0)
	must(t, f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	wantErr(t, err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	wantErr(t, err, fs.ErrClosed)
	_, err = f.Size()
	wantErr(t, err, fs.ErrClosed)
	_, err = f.Map(1)
	wantErr(t, err, fs.ErrClosed)
	wantErr(t, f.Truncate(0), fs.ErrClosed)
	wantErr(t, f.Preallocate(0, 1), fs.ErrClosed)
	wantErr(t, f.Sync(), fs.ErrClosed)
	wantErr(t, f.Close(), fs.ErrClosed)
}

func scriptPreallocate(t *testing.T, fsys FS, root string) {
	name := path.Join(root, "a")
	f := open(t, fsys, name, Create)
	put(t, f, "abc", 0)
	must(t, f.Preallocate(0, 1<<20))
	wantContent(t, fsys, name, "abc")
	put(t, f, "def", 3)
	wantContent(t, fsys, name, "abcdef")
	wantErr(t, f.Preallocate(0, 0), syscall.EINVAL)
	wantErr(t, f.Preallocate(-1, 1), syscall.EINVAL)
	must(t, f.Truncate(6))
	wantContent(t, fsys, name, "abcdef")
}

func open(t *testing.T, fsys FS, name string, mode Mode) File {
	t.Helper()
	f, err := fsys.Open(name, mode)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func put(t *testing.T, f File, s string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(s), off); err != nil || n != len(s) {
		t.Fatalf("WriteAt: %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// content is the whole file, "-" if there is none.
func content(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name, ReadOnly)
	if errors.Is(err, ErrNotExist) {
		return "-"
	}
	must(t, err)
	defer func() { must(t, f.Close()) }()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantContent(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	if got := content(t, fsys, name); got != want {
		t.Fatalf("%s is %q, want %q", name, got, want)
	}
}

func wantList(t *testing.T, fsys FS, dir string, want ...Info) {
	t.Helper()
	got, err := fsys.List(dir)
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("List: %+v, want %+v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("List: %+v, want %+v", got, want)
		}
	}
}

func wantMapped(t *testing.T, m Mapping, at int64, want string) {
	t.Helper()
	must(t, m.Read(func(b []byte) {
		if int64(len(b)) != m.Len() {
			t.Errorf("%d bytes of a mapping of %d", len(b), m.Len())
		}
		if got := b[at:][:len(want)]; !bytes.Equal(got, []byte(want)) {
			t.Errorf("mapped %q, want %q", got, want)
		}
	}))
}

func wantFault(t *testing.T, m Mapping, at int64) {
	t.Helper()
	if os.Getenv("CAIRN_EMULATED") != "" {
		t.Log("qemu-user tells no address of a fault: faults are not tested")
		return
	}
	sink := byte(0)
	wantErr(t, m.Read(func(b []byte) { sink = b[at] }), ErrFault)
	wantErr(t, m.Read(func(b []byte) { copy(make([]byte, 64), b[at:]) }), ErrFault)
	_ = sink
}
