package controller

import "cairn/engine/broker/catalog"

// Every replica has its log directory in the catalog (KIP-858) before it is in sync: one that nobody knows the place of could be lost
// with its disk unnoticed, and be begun anew, empty, on another one while it counts as in sync. The controller chooses the directory
// where it names the replica. A box that was away then chooses for itself, and says so when it is asked what its logs hold, where
// Kafka's asks by AssignReplicasToDirs; what it has not said by then the controller chooses after all.

// chooseDirectory spreads a broker's replicas over its log directories that work.
func chooseDirectory(b *catalog.Broker, topic catalog.UUID, partition int32) catalog.UUID {
	var online []catalog.UUID
	for _, d := range b.LogDirs {
		if !d.Failed {
			online = append(online, d.ID)
		}
	}
	if len(online) == 0 {
		return catalog.ZeroUUID
	}
	return online[(int(topic[0])+int(partition))%len(online)]
}

// whereabouts is the log directory that a broker has a replica in, of which the catalog does not say: by its own word, or because it
// has no other; zero where nobody knows.
func whereabouts(f *facts, b *catalog.Broker, topic catalog.UUID, partition int32) catalog.UUID {
	switch {
	case b == nil:
		return catalog.ZeroUUID
	case f.epochs.known(b) && !f.epochs.directory(b.ID, topic, partition).IsZero():
		return f.epochs.directory(b.ID, topic, partition)
	case len(b.LogDirs) == 1:
		return b.LogDirs[0].ID
	}
	return catalog.ZeroUUID
}

// placed is a partition whose replicas have log directories, as far as their brokers are there; p itself where nothing changes. A
// replica of unknown whereabouts is given one once its broker has said what its logs hold, unless it is in sync or eligible: then
// what is in it counts, wherever it is. anew says that one was, so that whatever it has elsewhere counts no more.
func placed(s *catalog.Snapshot, f *facts, t *catalog.Topic, index int32, p *catalog.Partition) (to *catalog.Partition, anew bool) {
	to = p
	for i, r := range p.Replicas {
		b := s.Broker(r)
		if b == nil || !p.Directory(r).Reserved() {
			continue
		}
		directory := whereabouts(f, b, t.ID, index)
		chosen := directory.IsZero() && f.epochs.known(b) && !p.CountsOn(r)
		if chosen {
			directory = chooseDirectory(b, t.ID, index)
		}
		if directory.IsZero() {
			continue
		}
		if to == p {
			to = p.With(p.Replicas, p.Adding, p.Removing)
		}
		to.Directories[i] = directory
		anew = anew || chosen
	}
	return to, anew
}
