package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cairn/packaging/conformance/boxes"
)

const (
	javaPartitions = 3
	javaRate       = 50               // records a second of one producer
	javaEndMax     = 60 * time.Second // from SIGTERM until all it has sent is acknowledged
	javaAckedName  = "java-acked"     // one line for each acknowledgement: topic, partition, offset, value
)

// javaConfig makes VerifiableProducer, which comes without retries, as patient as an application that must lose nothing. It would
// refuse to start if the file did not take the place of its own setting: without retries nothing is idempotent.
const javaConfig = `enable.idempotence=true
acks=all
retries=2147483647
delivery.timeout.ms=2147483647
max.in.flight.requests.per.connection=5
max.block.ms=2147483647
request.timeout.ms=3000
`

// javaValue is a record's value: the number of the run that made it, from 1, and its own among those of the run, from 0.
type javaValue struct{ run, number int64 }

func (v javaValue) String() string { return fmt.Sprintf("%d.%d", v.run, v.number) }

func (v javaValue) after(w javaValue) bool {
	return v.run > w.run || v.run == w.run && v.number > w.number
}

func readJavaValue(b string) (v javaValue, err error) {
	if _, err = fmt.Sscanf(b, "%d.%d", &v.run, &v.number); err != nil || v.String() != b {
		return v, fmt.Errorf("a value %q that no Java producer makes", b)
	}
	return v, nil
}

// JavaLedger is what the Java producers had acknowledged in all runs. Its file is written with each acknowledgement.
type JavaLedger struct {
	run      int64
	violated func(format string, args ...any)

	mu     sync.Mutex // protects what follows
	acks   map[Place]map[int64]javaValue
	counts map[string]int64 // by topic, of this run
	file   *os.File
}

// OpenJavaLedger reads what earlier runs have left in dir.
func OpenJavaLedger(dir string, run int, violated func(format string, args ...any)) (*JavaLedger, error) {
	f, err := os.OpenFile(filepath.Join(dir, javaAckedName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	l := &JavaLedger{run: int64(run), violated: violated, acks: map[Place]map[int64]javaValue{}, counts: map[string]int64{}, file: f}
	if err := l.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", f.Name(), err), f.Close())
	}
	return l, nil
}

// restore leaves out a last line that a killed run has not written to its end.
func (l *JavaLedger) restore() error {
	b, err := io.ReadAll(l.file)
	if err != nil {
		return err
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	for line := range strings.Lines(string(whole)) {
		var place Place
		var offset int64
		var text string
		if _, err := fmt.Sscan(line, &place.Topic, &place.Partition, &offset, &text); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		value, err := readJavaValue(text)
		if err != nil {
			return err
		}
		l.keep(place, offset, value)
	}
	if err := l.file.Truncate(int64(len(whole))); err != nil {
		return err
	}
	_, err = l.file.Seek(int64(len(whole)), io.SeekStart)
	return err
}

func (l *JavaLedger) keep(place Place, offset int64, value javaValue) {
	if l.acks[place] == nil {
		l.acks[place] = map[int64]javaValue{}
	}
	if was, ok := l.acks[place][offset]; ok {
		l.violated("%v: offset %d was acknowledged for %v and for %v", place, offset, was, value)
	}
	l.acks[place][offset] = value
}

// Acked notes an acknowledgement.
func (l *JavaLedger) Acked(place Place, offset int64, value javaValue) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(place, offset, value)
	l.counts[place.Topic]++
	_, err := fmt.Fprintln(l.file, place.Topic, place.Partition, offset, value)
	return err
}

// Count is how many records of a topic were acknowledged in this run.
func (l *JavaLedger) Count(topic string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[topic]
}

// Owns reports whether a topic is a Java producer's.
func (l *JavaLedger) Owns(topic string) bool { return l != nil && strings.HasPrefix(topic, "java-") }

// Judge compares a partition's log with what was acknowledged. The producers must be held, or have ended.
func (l *JavaLedger) Judge(where Place, log *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[int64]javaValue{}
	last := javaValue{number: -1}
	for _, b := range log.Batches {
		err := b.records(func(offset int64, _, v []byte) {
			value, err := readJavaValue(string(v))
			switch {
			case err != nil:
				l.violated("%v: at offset %d is %v", where, offset, err)
				return
			case value.run < 1 || value.run > l.run:
				l.violated("%v: at offset %d is %v, which nobody has made", where, offset, value)
			case !value.after(last):
				l.violated("%v: at offset %d is %v after %v: a duplicate, or out of order", where, offset, value, last)
			}
			there[offset], last = value, value
		})
		if err != nil {
			l.violated("%v: %v", where, err)
		}
	}
	for offset, value := range l.acks[where] {
		if found, ok := there[offset]; !ok {
			l.violated("%v: %v was acknowledged at offset %d, where nothing is", where, value, offset)
		} else if found != value {
			l.violated("%v: %v was acknowledged at offset %d, where %v is", where, value, offset, found)
		}
	}
}

// Close closes the file.
func (l *JavaLedger) Close() error { return l.file.Close() }

// Java is Kafka's own idempotent producer, a process of org.apache.kafka.tools.VerifiableProducer with a topic of its own. The main
// goroutine owns it.
type Java struct {
	topic  string
	ledger *JavaLedger
	cmd    *exec.Cmd
	ended  chan struct{}

	mu       sync.Mutex // protects what follows
	stopping bool
	told     int64 // acknowledgements that it has counted itself; -1: it has not said so yet
	failure  error // of what it wrote
}

func javaTopic(n int) string { return fmt.Sprintf("java-%d", n) }

// StartJava starts one and returns when its first record is acknowledged.
func StartJava(ctx context.Context, dir, classpath, topic string, seeds []string, ledger *JavaLedger) (*Java, error) {
	config := filepath.Join(dir, topic+".properties")
	if err := os.WriteFile(config, []byte(javaConfig), 0o644); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, topic+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("java", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath,
		"org.apache.kafka.tools.VerifiableProducer", "--bootstrap-server", strings.Join(seeds, ","), "--topic", topic,
		"--throughput", fmt.Sprint(javaRate), "--value-prefix", fmt.Sprint(ledger.run), "--command-config", config)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // as boxes have it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the Java producer of %s: %w", topic, err)
	}
	j := &Java{topic: topic, ledger: ledger, cmd: cmd, ended: make(chan struct{}), told: -1}
	go func() {
		defer close(j.ended)
		if err := j.read(out); err != nil {
			j.mu.Lock()
			j.failure = err
			j.mu.Unlock()
			_ = cmd.Process.Kill() // it would wait for a reader
		}
		_ = cmd.Wait() // a signal that ends it is asked for, or seen by Moves
	}()
	if err := j.Moves(ctx, beginMax); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// read takes in one line of JSON for each record, until the process closes its output.
func (j *Java) read(out io.Reader) error {
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		var line struct {
			Name, Topic, Value, Exception, Message string
			Partition                              int32
			Offset, Acked                          int64
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		switch line.Name {
		case "producer_send_success":
			value, err := readJavaValue(line.Value)
			if err == nil {
				err = j.ledger.Acked(Place{line.Topic, line.Partition}, line.Offset, value)
			}
			if err != nil {
				return err
			}
		case "producer_send_error":
			j.mu.Lock()
			if !j.stopping { // what it makes while it closes is refused by itself
				j.ledger.violated("%s: the Java producer had %s refused: %s: %s", j.topic, line.Value, line.Exception, line.Message)
			}
			j.mu.Unlock()
		case "tool_data":
			j.mu.Lock()
			j.told = line.Acked
			j.mu.Unlock()
		}
	}
}

// Moves waits until one more of its records is acknowledged. An error says that none was, or that it has ended.
func (j *Java) Moves(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for before := j.ledger.Count(j.topic); j.ledger.Count(j.topic) == before; {
		select {
		case <-j.ended:
			j.mu.Lock()
			defer j.mu.Unlock()
			return errors.Join(fmt.Errorf("the Java producer of %s has ended: %v", j.topic, j.cmd.ProcessState), j.failure)
		case <-ctx.Done():
			return fmt.Errorf("no record of the Java producer of %s is acknowledged after %v", j.topic, patience)
		case <-time.After(boxes.PollPause):
		}
	}
	return nil
}

// Hold lets it make nothing more, until Resume: a stopped process gives none of its records up.
func (j *Java) Hold() error { return j.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends Hold.
func (j *Java) Resume() error { return j.cmd.Process.Signal(syscall.SIGCONT) }

// Finish asks it to end, and waits until all that it has sent is acknowledged. It must have counted as many acknowledgements as the
// ledger.
func (j *Java) Finish(ctx context.Context) error {
	j.mu.Lock()
	j.stopping = true
	j.mu.Unlock()
	if err := errors.Join(j.cmd.Process.Signal(syscall.SIGTERM), j.Resume()); err != nil {
		return fmt.Errorf("end the Java producer of %s: %w", j.topic, err)
	}
	select {
	case <-j.ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(javaEndMax):
		return fmt.Errorf("the Java producer of %s has not ended %v after SIGTERM", j.topic, javaEndMax)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if count := j.ledger.Count(j.topic); j.failure != nil || j.told != count {
		return fmt.Errorf("the Java producer of %s has counted %d acknowledgements, %d were read, %v", j.topic, j.told, count, j.failure)
	}
	return nil
}

// Close kills it, if it still runs, and waits for its end.
func (j *Java) Close() {
	j.mu.Lock()
	j.stopping = true
	j.mu.Unlock()
	_ = j.cmd.Process.Kill() // it may have ended
	<-j.ended
}

// startJava starts all of the shape's.
func (s *Suite) startJava(ctx context.Context) error {
	for n := range s.state.Shape.Java {
		j, err := StartJava(ctx, s.dir, s.classpath, javaTopic(n), s.seeds(), s.javaLedger)
		if err != nil {
			return err
		}
		s.java = append(s.java, j)
		if err := j.Hold(); err != nil { // the first round begins
			return err
		}
	}
	return nil
}

// eachJava does the same to all, in their order.
func (s *Suite) eachJava(do func(*Java) error) error {
	for _, j := range slices.Clone(s.java) {
		if err := do(j); err != nil {
			return err
		}
	}
	return nil
}

// javaAcked is how many records the Java producers had acknowledged in this run.
func (s *Suite) javaAcked() (n int64) {
	for _, j := range s.java {
		n += j.ledger.Count(j.topic)
	}
	return n
}
