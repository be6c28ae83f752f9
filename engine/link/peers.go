package link

import "maps"

// SetPeers says who the other boxes are from now on, and where. Connections to and from those that are no peers any more
// end; one whose address changed is dialled anew.
func (l *Link) SetPeers(peers map[uint64]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || maps.Equal(peers, l.peers) {
		return
	}
	for id, w := range l.lanes {
		if peers[id.to] != l.peers[id.to] {
			delete(l.lanes, id)
			w.close()
		}
	}
	for c, in := range l.incoming {
		if from := in.id.to; from != 0 && peers[from] == "" {
			_ = c.Close()
		}
	}
	maps.DeleteFunc(l.spoken, func(id laneID, _ uint64) bool { return peers[id.to] == "" })
	l.peers = maps.Clone(peers)
	if l.started {
		l.lanesToAll()
	}
}

// lanesToAll begins the lanes to every peer. mu is held.
func (l *Link) lanesToAll() {
	for to := range l.peers {
		for p, h := range l.handlers {
			if h != nil {
				l.lane(laneID{to, Protocol(p), kindBulk})
				l.lane(laneID{to, Protocol(p), kindUrgent})
			}
		}
	}
}
