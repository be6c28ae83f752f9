package process

import (
	"path/filepath"
	"strings"
	"testing"
)

// A program that fails is reported with what it said last.
func TestExitHasLastWords(t *testing.T) {
	var p Process
	if err := p.Start(filepath.Join(t.TempDir(), "log"), nil, "sh", "-c", "echo the disk is full; exit 3"); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	err := p.Exit()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("it ended with %v", err)
	}
}
