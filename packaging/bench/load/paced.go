package load

import (
	"fmt"
	"time"
)

// drivePaced sends at the times of the schedule from one goroutine and reads from another, until the run stops or the
// talker has no more. The schedules of the connections interleave.
func (c *conn) drivePaced() error {
	inFlight := make(chan time.Time, c.run.plan.Window) // when they were to be sent, in order
	broken := make(chan struct{})
	received := make(chan error, 1)
	go func() {
		err := c.receivePaced(inFlight)
		close(broken)
		received <- err
	}()
	err := c.sendPaced(inFlight, broken)
	close(inFlight)
	if err != nil {
		c.net.Close() // the reader need not wait for what was not sent
		<-received
		return fmt.Errorf("connection %d: %w", c.index, err)
	}
	return <-received
}

func (c *conn) sendPaced(inFlight chan<- time.Time, broken <-chan struct{}) error {
	between := time.Duration(float64(time.Second) * float64(c.run.plan.Connections) / c.run.plan.Rate)
	due := c.run.begun.Add(between * time.Duration(c.index) / time.Duration(c.run.plan.Connections))
	for id := uint32(1); ; id++ {
		time.Sleep(time.Until(due))
		if !c.run.take() {
			return nil
		}
		c.out = c.talker.Append(c.out[:0], id)
		if len(c.out) == 0 {
			return nil
		}
		select {
		case inFlight <- due:
		case <-broken:
			return nil // the reader says why
		}
		_ = c.net.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.net.Write(c.out); err != nil {
			return err
		}
		due = due.Add(between)
	}
}

func (c *conn) receivePaced(inFlight <-chan time.Time) error {
	for due := range inFlight {
		_ = c.net.SetReadDeadline(time.Now().Add(patience))
		if err := c.receiveSince(due); err != nil {
			return fmt.Errorf("connection %d, request %d: %w", c.index, c.oldest, err)
		}
	}
	return nil
}
