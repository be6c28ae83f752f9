package keeper

import "time"

// voices are when the other boxes were heard. A box that is cut off goes on answering the clients of the sessions that it
// holds, and cannot report that they were heard: their time counts from its silence, not from its last report.
type voices struct {
	began   time.Duration // of leading; nobody is silent since longer
	silence time.Duration
	answers time.Duration
	self    uint64
	heard   map[uint64]time.Duration
}

func newVoices(cfg Config, now time.Duration) voices {
	return voices{began: now, silence: cfg.BoxSilence, answers: cfg.BoxAnswers, self: cfg.SelfBox, heard: map[uint64]time.Duration{}}
}

// last is when a box was heard last.
func (v *voices) last(box uint64) time.Duration { return max(v.heard[box], v.began) }

// hear takes note of a box, and tells whether it was silent for so long that its reports are missing.
func (v *voices) hear(box uint64, now time.Duration) (back bool) {
	back = now-v.last(box) > v.silence
	v.heard[box] = now
	return back
}

// until is the time until which a box, where there is one, may have answered its clients without a report of it here.
func (v *voices) until(box uint64, now time.Duration) time.Duration {
	if box == 0 || box == v.self || now-v.last(box) <= v.silence {
		return 0
	}
	return v.last(box) + v.answers
}
