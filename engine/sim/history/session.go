package history

import "time"

// checkSessions judges the ends of sessions: one whose client was answered must live for its timeout from when that
// client asked, less the slack; and one that is over answers nothing any more.
func checkSessions(x *index, slack time.Duration) []Violation {
	var violations []Violation
	for _, session := range x.sessions() {
		var timeout time.Duration
		var heard *Op
		var over *Event
		for _, item := range x.seen[session] {
			switch i := item.(type) {
			case *Op:
				if over != nil && i.done() && i.Kind != Other {
					violations = append(violations, violation("session", []any{over, i}, "a session that was over was answered:"))
				}
				if heard == nil || i.Invoked > heard.Invoked {
					heard = i
				}
			case *Event:
				if i.Kind == Connected {
					timeout = i.Timeout
				}
				if i.Kind == Expired || i.Kind == Closed {
					over = i
				}
				if i.Kind == Expired && heard != nil && timeout > 0 && i.At < heard.Invoked+timeout-slack {
					violations = append(violations, violation("session", []any{heard, i}, "a session of %v was over %v after its client was heard:",
						timeout, i.At-heard.Invoked))
				}
			}
		}
	}
	return violations
}
