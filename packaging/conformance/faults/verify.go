package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cairn/engine/ensemble/jute"
)

// verify compares what every box holds with the ledger. Nothing may be under way.
func (l *Load) verify(ctx context.Context) error {
	var first []string
	for i, probe := range l.probes {
		box := i + 1
		children, err := l.verifyBox(ctx, probe, box)
		if err != nil {
			return fmt.Errorf("read all through box %d: %w", box, err)
		}
		if i == 0 {
			first = children
		} else if !slices.Equal(first, children) {
			l.ledger.Lost("box %d and box 1 have other children: %v and %v", box, children, first)
		}
	}
	l.verifyChildren(first)
	return nil
}

// verifyBox reads everything on one connection, behind a sync; when the connection breaks, on the next.
func (l *Load) verifyBox(ctx context.Context, s *Session, box int) ([]string, error) {
	for {
		children, err := l.readBox(ctx, s, box)
		if !errors.Is(err, errLost) {
			return children, err
		}
	}
}

func (l *Load) readBox(ctx context.Context, s *Session, box int) ([]string, error) {
	c, err := s.await(ctx)
	if err != nil {
		return nil, err
	}
	where := fmt.Sprintf("box %d: ", box)
	for i, a := range l.ledger.Accounts {
		p, err := syncRead(ctx, c, a.Path)
		if errors.Is(err, errLost) || ctx.Err() != nil {
			return nil, err
		}
		l.judge(a, &p, err, where)
		var e jute.GetDataResponse
		_, err = do(ctx, c, jute.OpGetData, &jute.PathWatchRequest{Path: a.ephemeral()}, &e)
		id := l.sessions[i].ID()
		switch {
		case errors.Is(err, errLost) || ctx.Err() != nil:
			return nil, err
		case errors.Is(err, jute.NoNode) || err == nil && e.Stat.EphemeralOwner != id:
			l.ledger.Lost("%sthe ephemeral of session 0x%x is of 0x%x: %v", where, id, e.Stat.EphemeralOwner, err)
		case err != nil:
			return nil, err
		}
	}
	var p jute.GetChildrenResponse
	if _, err := do(ctx, c, jute.OpGetChildren, &jute.PathWatchRequest{Path: *l.parent.Load()}, &p); err != nil {
		return nil, err
	}
	slices.Sort(p.Children)
	return p.Children, nil
}

// verifyChildren compares a round's children with what was acknowledged and tried.
func (l *Load) verifyChildren(children []string) {
	there := map[string]bool{}
	byName := map[string]int{}
	for _, child := range children {
		there[child] = true
		byName[child[:strings.LastIndexByte(child, '-')+1]]++
	}
	for name, n := range byName {
		if n > 1 {
			l.ledger.Lost("%s was created %d times", name, n)
		}
	}
	var all []Created
	known := map[string]bool{}
	for _, a := range l.ledger.Accounts {
		a.mu.Lock()
		all = append(all, a.created...)
		for _, name := range a.tried {
			known[name] = true
		}
		a.mu.Unlock()
	}
	for _, c := range all {
		name := c.Path[strings.LastIndexByte(c.Path, '/')+1:]
		known[name[:strings.LastIndexByte(name, '-')+1]] = true
		if !there[name] {
			l.ledger.Lost("%s was acknowledged with zxid %d and is not there", c.Path, c.Zxid)
		}
	}
	for name := range byName {
		if !known[name] {
			l.ledger.Lost("%s is there and nobody has tried it", name)
		}
	}
	if err := checkOrder(all); err != nil {
		l.ledger.Lost("%v", err)
	}
}
