package seglog

import (
	"strings"
	"testing"

	"cairn/platform/vfs"
)

// meddling calls meanwhile when a file is given its name.
type meddling struct {
	vfs.FS
	name      string
	meanwhile func()
}

func (m *meddling) Rename(from, to string) error {
	if f := m.meanwhile; f != nil && strings.HasSuffix(to, m.name) {
		m.meanwhile = nil
		f()
	}
	return m.FS.Rename(from, to)
}

// A removed segment is unlinked only after the start behind it is durable, whatever other logs do while the checkpoint is
// written: else a crash could bring an older one back and leave a hole.
func TestAStartIsDurableBeforeItsSegmentsGo(t *testing.T) {
	fs := &meddling{FS: vfs.NewMem(), name: nameLogStarts}
	r := mustRig(t, fs)
	l := r.create()
	other, err := r.dir.Create(TopicPartition{"other", 0}, ID{4}, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	trim := func(l *Log, offset int64) {
		t.Helper()
		if out, err := l.TrimTo(r.clk.Now(), offset, offset); err != nil || out.Segments == 0 {
			t.Fatalf("trim: %+v, %v", out, err)
		}
	}
	for _, x := range []*Log{l, other} {
		r.fill(x, 30, 300)
		r.mustFlush(x)
	}
	r.sched.RunFor(1e9)
	trim(other, 20)
	fs.meanwhile = func() {
		trim(l, 20)
		if err := r.dir.unlinkDoomed(other); err != nil {
			t.Error(err)
		}
	}
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if fs.meanwhile != nil {
		t.Fatal("no start was written: the test shows nothing")
	}
	if start, _ := r.dir.pointsOf(testTP); start >= l.View().StartOffset() {
		t.Fatalf("start %d is durable already: the test shows nothing", start)
	}
	for _, x := range r.dir.ready {
		if x.log == l {
			t.Fatalf("%s may be unlinked, and its start is not durable", x.files.logName)
		}
	}
	if err := r.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if len(r.dir.ready) == 0 || len(r.dir.doomed) != 0 {
		t.Fatalf("%d segments may be unlinked and %d not yet, want all", len(r.dir.ready), len(r.dir.doomed))
	}
}
