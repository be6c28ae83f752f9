package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPreallocateTakesBlocksAndTruncateGivesThemBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f := open(t, OS(), name, Create)
	put(t, f, "abc", 0)
	must(t, f.Preallocate(0, 1<<20))
	blocks := func() int64 {
		var st unix.Stat_t
		must(t, unix.Stat(name, &st))
		return int64(st.Blocks) * 512
	}
	if blocks() < 1<<20 {
		t.Skipf("the file system does not preallocate: %d bytes", blocks())
	}
	must(t, f.Truncate(3))
	if blocks() > 64<<10 {
		t.Fatalf("%d bytes still taken after Truncate to the same length", blocks())
	}
}

// The collector closes an *os.File that nobody holds; as long as the File is held, its descriptor stays.
func TestDescriptorLivesAsLongAsFile(t *testing.T) {
	f, err := OS().Open(filepath.Join(t.TempDir(), "a"), Create)
	must(t, err)
	put(t, f, "abc", 0)
	fd := int(f.(Descriptor).Fd())
	for range 5 {
		runtime.GC()
	}
	b := make([]byte, 3)
	n, err := unix.Pread(fd, b, 0)
	if err != nil || string(b[:n]) != "abc" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	must(t, f.Close())
}

func TestNoSpaceErrorsKeepTheirText(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT} {
		err := noSpace(&fs.PathError{Op: "write", Path: "x", Err: errno})
		if !errors.Is(err, ErrNoSpace) || !errors.Is(err, errno) {
			t.Errorf("%v is not ErrNoSpace and %v", err, errno)
		}
		if want := "write x: " + errno.Error(); err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if errors.Is(noSpace(unix.EIO), ErrNoSpace) || noSpace(nil) != nil {
		t.Error("noSpace marks what is not")
	}
}

// A full device (/dev/full is one without a device) answers ErrNoSpace.
func TestFullDevice(t *testing.T) {
	f, err := OS().Open("/dev/full", ReadWrite)
	if err != nil {
		t.Skip(err)
	}
	defer func() { must(t, f.Close()) }()
	_, err = f.WriteAt([]byte("x"), 0)
	wantErr(t, err, ErrNoSpace)
}

func TestGuardRestoresTheSettingAndFaultsOutsidePass(t *testing.T) {
	if os.Getenv("CAIRN_EMULATED") != "" {
		t.Skip("qemu-user tells no address of a fault")
	}
	for _, before := range []bool{false, true} {
		debug.SetPanicOnFault(before)
		f := open(t, OS(), filepath.Join(t.TempDir(), "a"), Create)
		m, err := f.Map(1 << 16)
		must(t, err)
		wantErr(t, m.Read(func(b []byte) { b[0x8000]++ }), ErrFault)
		if got := debug.SetPanicOnFault(false); got != before {
			t.Errorf("setting is %v after a fault, want %v", got, before)
		}
		func() {
			defer func() {
				if _, ok := recover().(runtime.Error); !ok {
					t.Error("a nil pointer in the reader was taken for a fault of the mapping")
				}
			}()
			var p *int
			_ = m.Read(func([]byte) { *p = 1 })
		}()
		must(t, m.Close())
	}
}

// Close during Read unmaps after it.
func TestMappingCloseWaitsForReaders(t *testing.T) {
	f := open(t, OS(), filepath.Join(t.TempDir(), "a"), Create)
	put(t, f, "abc", 0)
	m, err := f.Map(3)
	must(t, err)
	must(t, m.Read(func(b []byte) {
		must(t, m.Close())
		if string(b) != "abc" {
			t.Errorf("read %q", b)
		}
	}))
	wantErr(t, m.Read(func([]byte) {}), fs.ErrClosed)
}

func BenchmarkMappingRead(b *testing.B) {
	f, err := OS().Open(filepath.Join(b.TempDir(), "a"), Create)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
		b.Fatal(err)
	}
	m, err := f.Map(4096)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	sum := byte(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Read(func(p []byte) { sum += p[100] }); err != nil {
			b.Fatal(err)
		}
	}
}

// Positions beyond 32 bits, which is the point of this test where an int has 32.
func TestPositionsBeyond4GiB(t *testing.T) {
	const far = 5 << 30
	name := filepath.Join(t.TempDir(), "a")
	f := open(t, OS(), name, Create)
	put(t, f, "far", far)
	must(t, f.Preallocate(far, 1<<16))
	must(t, f.Sync())
	if size, err := f.Size(); err != nil || size != far+3 {
		t.Fatalf("size %d, %v", size, err)
	}
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, far); err != nil || string(b) != "far" {
		t.Fatalf("%q, %v", b, err)
	}
	if info, err := OS().Stat(name); err != nil || info.Size != far+3 {
		t.Fatalf("%+v, %v", info, err)
	}
	must(t, f.Truncate(far+1))
	if size, err := f.Size(); err != nil || size != far+1 {
		t.Fatalf("size %d, %v", size, err)
	}
}
