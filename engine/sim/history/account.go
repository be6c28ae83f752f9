package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// accountMax is how many lines an account has at the most.
const accountMax = 24

// violation makes one of a sentence and of the operations and events that it is about.
func violation(rule string, items []any, format string, args ...any) Violation {
	slices.SortStableFunc(items, func(a, b any) int { return place(a) - place(b) })
	items = slices.Compact(items)
	lines := []string{fmt.Sprintf(format, args...)}
	for i, item := range items {
		if i == accountMax {
			lines = append(lines, fmt.Sprintf("… and %d more", len(items)-i))
			break
		}
		lines = append(lines, fmt.Sprint(item))
	}
	return Violation{Rule: rule, Text: strings.Join(lines, "\n  ")}
}

// place is where an item began in the order of everything.
func place(item any) int {
	switch i := item.(type) {
	case *Op:
		return i.invoked
	case *Event:
		return i.seq
	}
	return 0
}

// String is the operation on one line: when, who, where, what, and what came of it.
func (o *Op) String() string {
	end := "no answer"
	if o.Known() {
		end = millis(o.Returned)
	}
	return fmt.Sprintf("%s–%s client %d session 0x%x conn %d box %d: %s %s", millis(o.Invoked), end, o.Client, uint64(o.Session), o.Conn,
		o.Box, o.asked(), o.answered())
}

func millis(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func (o *Op) asked() string {
	text := fmt.Sprintf("%v %s", o.Kind, o.Path)
	switch o.Kind {
	case Create, CreateSequential:
		text += fmt.Sprintf(" %q", o.Value)
	case Set:
		text += fmt.Sprintf(" %q v%d", o.Value, o.Version)
	case Delete, Release:
		text += fmt.Sprintf(" v%d", o.Version)
	case Multi:
		for _, p := range o.Parts {
			text += " " + p.String()
		}
	}
	if o.Watch != NoWatch {
		text += " with a watch"
	}
	return text
}

// String is the part as an account shows it.
func (p Part) String() string {
	if p.Check {
		return fmt.Sprintf("[check %s v%d]", p.Path, p.Version)
	}
	return fmt.Sprintf("[%v %s %q v%d]", p.Kind, p.Path, p.Value, p.Version)
}

func (o *Op) answered() string {
	if !o.Known() {
		return "→ ?"
	}
	r := &o.Result
	text := fmt.Sprintf("→ zxid %d", r.Zxid)
	switch {
	case r.Code != OK:
		return fmt.Sprintf("%s, error %d", text, r.Code)
	case o.Kind == Read || o.Kind == SyncRead:
		text += fmt.Sprintf(", %q v%d", r.Value, r.Version)
	case o.Kind == Set:
		text += fmt.Sprintf(", v%d", r.Version)
	case o.Kind == Children:
		text += fmt.Sprintf(", %d children", len(r.Children))
	case r.Name != "":
		text += ", " + r.Name
	}
	for _, z := range []struct {
		name string
		zxid int64
	}{{"czxid", r.Czxid}, {"mzxid", r.Mzxid}, {"pzxid", r.Pzxid}} {
		if z.zxid != 0 {
			text += fmt.Sprintf(" %s %d", z.name, z.zxid)
		}
	}
	return text
}

// String is the event on one line.
func (e *Event) String() string {
	text := fmt.Sprintf("%s client %d session 0x%x conn %d box %d: %v", millis(e.At), e.Client, uint64(e.Session), e.Conn, e.Box, e.Kind)
	if e.Kind == Fired {
		text += fmt.Sprintf(" of type %d for %s, zxid %d", e.Type, e.Path, e.Zxid)
	}
	if e.Kind == Connected {
		text += fmt.Sprintf(", timeout %v", e.Timeout)
	}
	return text
}
