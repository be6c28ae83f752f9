package controller

import (
	"slices"

	"cairn/engine/broker/catalog"
)

// electionKind says who may lead.
type electionKind uint8

const (
	cleanElection     electionKind = iota // in-sync and eligible replicas; unclean ones if the topic allows
	preferredElection                     // the first replica, if it is in sync
	uncleanElection                       // any replica that lives
)

// reconcile plans the states of a topic's partitions that must change because of what lives: partitions without a
// state get one, partitions without a leader that may act get a new election, replicas that are gone leave the ISR.
// It returns false when the multi is full and partitions are left.
func reconcile(w *work, f *facts, name string) bool {
	t := w.now.Topic(name)
	if t == nil || t.Deleting {
		return true
	}
	if !initialStates(w, f, name) {
		return false
	}
	r := reshape{topic: t}
	for i, p := range t.Partitions {
		if !p.HasState {
			continue
		}
		if to, state, ok := completed(w.now, f, t, int32(i), p); ok {
			r.set(int32(i), to, &state)
		} else if next, changed := elect(w.now, f, t, int32(i), p, cleanElection); changed {
			r.set(int32(i), p, &next)
		}
		if r.full(w) {
			r.plan(w)
			return false
		}
	}
	r.plan(w)
	return true
}

// initialStates plans the states of partitions that have none. It returns false when the multi is full first.
func initialStates(w *work, f *facts, name string) bool {
	t := w.now.Topic(name)
	var ops []catalog.Op
	size, done := w.bytes, true
	add := func(op catalog.Op) {
		ops = append(ops, op)
		size += op.Size()
	}
	for i, p := range t.Partitions {
		if p.HasState {
			continue
		}
		if !w.unbounded && (len(w.ops)+len(ops) >= multiOpsMax || size >= multiBytesMax) {
			done = false
			break
		}
		state, ok := firstState(w.now, f, t, int32(i))
		if !ok {
			continue // nobody who could lead it lives, or the epochs are not known yet: later
		}
		if !t.PartitionsNode && len(ops) == 0 {
			add(create(catalog.PartitionsPath(name), nil))
		}
		if !p.Node {
			add(create(catalog.PartitionPath(name, int32(i)), nil))
		}
		add(create(catalog.StatePath(name, int32(i)), catalog.EncodeState(state)))
	}
	if len(ops) > 0 {
		w.do(ops...)
	}
	return done
}

// firstState is the state of a new partition: led by its first living replica, in sync with all living ones but those that are about
// to stop or have no log directory that works, in the log directories that were chosen for it. ok is false while no replica lives.
func firstState(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32) (state catalog.PartitionState, ok bool) {
	p := t.Partitions[index]
	state = catalog.PartitionState{
		Leader: catalog.NoLeader, ControllerEpoch: s.ControllerEpoch, Directories: map[int32]catalog.UUID{},
	}
	for _, r := range p.Replicas {
		b := s.Broker(r)
		if b == nil {
			continue // it is given a directory when it comes: see placed
		}
		dir := chooseDirectory(b, t.ID, index)
		if !dir.IsZero() {
			state.Directories[r] = dir
		}
		if f.leaving.has(s, r) || dir.IsZero() && len(b.LogDirs) > 0 {
			continue
		}
		state.ISR = append(state.ISR, r)
		if state.Leader == catalog.NoLeader && f.epochs.known(b) {
			state.Leader, state.LeaderBrokerEpoch = r, b.Epoch
			state.LeaderEpoch = f.epochs.floor(r, t.ID, index) + 1
		}
	}
	return state, state.Leader != catalog.NoLeader
}

// elect is the state that a partition of a topic should have, where p is that partition as it is, or with the replicas that
// it is about to have. changed is false when p has it already.
//
// The rules are KIP-966's: a replica whose broker or log directory is gone leaves the ISR; while the ISR is smaller than
// min.insync.replicas, those that left it stay eligible (ELR); so does one that is about to stop, unless no other is in it. One that
// may have forgotten what it acknowledged leaves both, unless that is all of them. A leader comes from the ISR, else from the ELR, else,
// where the topic allows unclean election, from any replica that lives. A leader of an earlier registration does not
// count: it is elected again, with a new epoch. Replicas without a log directory are given theirs; where one begins anew by that, the
// epoch is new too, so that nothing that was vouched for elsewhere counts for it.
func elect(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p *catalog.Partition, kind electionKind) (next catalog.PartitionState, changed bool) {
	was := p
	p, anew := placed(s, f, t, index, p)
	next = p.State()
	next.ISR = without(p.ISR, func(r int32) bool { return !s.ReplicaOnline(p, r) })
	forgets := func(r int32) bool { return s.Forgetful(t, p, r) }
	know := without(next.ISR, forgets)
	if (slices.ContainsFunc(p.ISR, forgets) || slices.ContainsFunc(p.ELR, forgets)) && len(know)+len(without(eligibleLeaders(t, p, know), forgets)) == 0 {
		know, forgets = next.ISR, func(int32) bool { return false } // nobody knows more
	}
	next.ISR = know
	if stay := without(next.ISR, func(r int32) bool { return f.leaving.has(s, r) }); len(stay) > 0 {
		next.ISR = stay
	}
	next.ELR = without(eligibleLeaders(t, p, next.ISR), forgets)
	var waiting bool
	if next.Leader, waiting = choose(s, f, t, p, &next, kind); waiting {
		next.Directories = was.State().Directories
		return next, false
	}
	var brokerEpoch int64
	if next.Leader != catalog.NoLeader {
		brokerEpoch = s.Broker(next.Leader).Epoch
	}
	if floor := f.epochs.floor(next.Leader, t.ID, index); next.Leader != p.Leader || !s.Elected(p, brokerEpoch) || floor > p.LeaderEpoch || anew {
		next.LeaderEpoch = max(p.LeaderEpoch, floor) + 1
		next.LeaderBrokerEpoch = brokerEpoch
		changed = true
	}
	changed = changed || p != was || !slices.Equal(next.ISR, p.ISR) || !slices.Equal(next.ELR, p.ELR)
	next.ControllerEpoch = s.ControllerEpoch
	return next, changed
}

// without is a list less what is named.
func without(list []int32, gone func(int32) bool) []int32 {
	return slices.DeleteFunc(slices.Clone(list), gone)
}

// choose finds the leader, and moves it into next's ISR if it was outside. waiting says that a replica in sync is
// registered and has not yet said what its logs hold: nothing is written before it has, because whatever would be
// written now would be written again for every partition of that box.
func choose(s *catalog.Snapshot, f *facts, t *catalog.Topic, p *catalog.Partition, next *catalog.PartitionState, kind electionKind) (leader int32, waiting bool) {
	alive := func(r int32) bool {
		b := s.Broker(r)
		return b != nil && f.epochs.known(b) && s.ReplicaOnline(p, r)
	}
	inSync := func(r int32) bool { return alive(r) && slices.Contains(next.ISR, r) }
	if kind == preferredElection && inSync(p.Replicas[0]) {
		return p.Replicas[0], false
	}
	if p.Leader != catalog.NoLeader && inSync(p.Leader) {
		return p.Leader, false
	}
	// The order is that of the replicas, so that the preferred leader comes first.
	if i := slices.IndexFunc(p.Replicas, inSync); i >= 0 {
		return p.Replicas[i], false
	}
	if len(next.ISR) > 0 && kind != uncleanElection {
		return catalog.NoLeader, true
	}
	i := slices.IndexFunc(p.Replicas, func(r int32) bool { return alive(r) && slices.Contains(next.ELR, r) })
	if i < 0 && (kind == uncleanElection || t.Settings.UncleanElection) {
		i = slices.IndexFunc(p.Replicas, alive)
	}
	if i < 0 {
		return catalog.NoLeader, false
	}
	leader = p.Replicas[i]
	next.ISR = []int32{leader}
	next.ELR = slices.DeleteFunc(next.ELR, func(r int32) bool { return r == leader })
	return leader, false
}
