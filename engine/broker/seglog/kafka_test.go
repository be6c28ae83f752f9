package seglog

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"
)

// Kafka's own DumpLogSegments reads our segments and indexes, the active ones included, without complaint. CAIRN_KAFKA_LIBS names a directory
// with Kafka's jars; without it the test is skipped.
func TestKafkaDumpsOurSegments(t *testing.T) {
	libs := os.Getenv("CAIRN_KAFKA_LIBS")
	if libs == "" {
		t.Skip("CAIRN_KAFKA_LIBS is not set")
	}
	_, l := disk(t)
	cfg := l.Config()
	cfg.SegmentBytes, cfg.IndexInterval = 100_000, 1000
	if err := l.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	now := clock.System().Now()
	for i := range 400 {
		ts := now.UnixMilli() + int64(i)
		if i%3 == 0 {
			ts -= 10_000 // time that goes back
		}
		if _, err := l.Append(now, makeBatch(int64(2*i), 3, 2, 900, ts, i)); err != nil {
			t.Fatal(err)
		}
	}
	opts := batch.NewOptions()
	opts.BaseOffset, opts.LeaderEpoch, opts.ProducerID, opts.ProducerEpoch = 800, 3, 9, 0
	marker, err := batch.BuildMarker(nil, opts, now.UnixMilli(), batch.Marker{Type: batch.Abort, CoordinatorEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(now, marker); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendAborted(AbortedTxn{9, 790, 800, 801}); err != nil {
		t.Fatal(err)
	}
	flushWait(t, l)
	if err := l.writeIndexes(); err != nil { // as the next checkpoint or a rest would; the log stays open
		t.Fatal(err)
	}
	files, err := filepath.Glob(l.path + "/*")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range files {
		switch filepath.Ext(f) {
		case ".log", ".index", ".timeindex", ".txnindex":
			list = append(list, f)
		}
	}
	out, err := exec.Command("java", "-Xmx256m", "-cp", libs+"/*", "org.apache.kafka.tools.DumpLogSegments",
		"--deep-iteration", "--verify-index-only", "--files", strings.Join(list, ",")).CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	// The tool of 4.3 begins each file with a last offset of -1, so it finds every segment non-consecutive that does not begin
	// at 0, whoever wrote it.
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.Contains(line, "Non-consecutive offsets in") && !strings.Contains(line, "-1 is followed by ") {
			lines = append(lines, line)
		}
	}
	text = strings.Join(lines, "\n")
	for _, bad := range []string{"ismatch", "out of order", "invalid bytes", "isvalid: false", "is followed by", "xception", "couldn't find"} {
		if strings.Contains(text, bad) {
			t.Errorf("Kafka says %q:\n%s", bad, text)
		}
	}
	if n := strings.Count(text, "isvalid: true"); n != 401 {
		t.Errorf("Kafka found %d batches, 401 were appended:\n%.3000s", n, text)
	}
	if !strings.Contains(text, "endTxnMarker: ABORT") || !strings.Contains(text, "producerId: 9 firstOffset: 790 lastOffset: 800") {
		t.Error("Kafka does not see the aborted transaction")
	}
}
