package players

// Event is what a page noted of its video element: an event, and how the element was then.
type Event struct {
	// Name is the event's; "request" and "requested" are before and after the call that told the player what to play.
	Name string
	At   int64 // Unix ms
	// Time is the playhead, seconds; Rate the playback rate, Ready the readyState.
	Time, Rate      float64
	Ready           int
	Paused, Seeking bool
}

// Seen is what the viewer saw, by the element's events alone.
type Seen struct {
	StartupMs, StalledMs, SeekMs, PausedMs, PlayedMs int64
	AskingMs                                         int64 // how long the call took that told the player what to play
	Started                                          bool
	Stalls                                           int
	// Waiting says that after the last event it had begun to play, and neither played nor was paused.
	Waiting bool
	SinceMs int64 // Unix ms of the last change
}

// Account reads the events: a wait before the first picture is start-up, one in
// a seek is the seek's, and shaka waits by stopping the clock.
func Account(log []Event) (m Seen) {
	requested, state := int64(0), ""
	to := func(e Event, next string) {
		if next == state {
			return
		}
		d := e.At - m.SinceMs
		switch state {
		case "play":
			m.PlayedMs += d
		case "stall":
			m.StalledMs += d
		case "seek":
			m.SeekMs += d
		case "pause":
			m.PausedMs += d
		}
		if next == "stall" {
			m.Stalls++
		}
		state, m.SinceMs = next, e.At
	}
	for _, e := range log {
		wait := e.Name == "waiting" || e.Name == "ratechange" && e.Rate == 0
		switch {
		case e.Name == "request":
			requested = e.At
		case e.Name == "requested":
			m.AskingMs = e.At - requested
		case e.Name == "playing", e.Name == "ratechange" && e.Rate > 0 && e.Ready > 2 && !e.Paused && state == "stall":
			if !m.Started {
				m.Started, m.StartupMs = true, e.At-requested
			}
			to(e, "play")
		case !m.Started:
		case e.Name == "seeking":
			to(e, "seek")
		case e.Name == "pause":
			to(e, "pause")
		case wait && !e.Paused && !e.Seeking && state == "play":
			to(e, "stall")
		}
	}
	m.Waiting = state == "stall" || state == "seek"
	return m
}
