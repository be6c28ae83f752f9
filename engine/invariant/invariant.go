// Package invariant says that something must be true. In tests (-tags invariants) what is not true panics where it
// stands; in production it becomes an error that stops the partition or the box, which never goes on with bad data.
// It is a vocabulary: no state, no goroutine.
package invariant

import (
	"errors"
	"fmt"
)

// ErrViolated marks every error of this package; errors.Is finds it.
var ErrViolated = errors.New("invariant violated: this is a bug in cairn")

// Check returns nil when ok holds, and otherwise an error that wraps ErrViolated (or panics under -tags invariants).
func Check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	err := fmt.Errorf("%w: %s", ErrViolated, fmt.Sprintf(format, args...))
	if panics {
		panic(err)
	}
	return err
}
