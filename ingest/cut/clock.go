package cut

// wallClock maps media time to the wall-clock of arrival without jitter: see the package comment.
type wallClock struct {
	mins   [16]int64 // least arrival-minus-media of each of the last seconds, microseconds
	n      int       // buckets in use
	at     int       // current bucket
	second int64     // arrival second of the current bucket
	first  int64     // first arrival
	last   int64
	offset int64 // estimate in use
	target int64 // least over the window
	begun  bool
	grain  int64 // resolution of media times
}

const (
	settleUs         = 1_000_000 // at the start the least so far is taken at once
	slewDownPerMille = 5         // how fast the estimate may sink: 5 ms for each second
	slewUpPerMille   = 1
)

// observe takes a frame: arrival in Unix microseconds, presentation in media microseconds.
func (c *wallClock) observe(arrived, media int64) {
	v := arrived - media
	if !c.begun {
		c.begun, c.first, c.last, c.second = true, arrived, arrived, arrived/1e6
		c.mins[0], c.n, c.offset, c.target = v, 1, v, v
		return
	}
	if s := arrived / 1e6; s > c.second {
		c.second = s
		c.at = (c.at + 1) % len(c.mins)
		c.n = min(c.n+1, len(c.mins))
		c.mins[c.at] = v
		c.target = v
		for _, m := range c.mins[:c.n] {
			c.target = min(c.target, m)
		}
	}
	c.mins[c.at] = min(c.mins[c.at], v)
	c.target = min(c.target, v)
	elapsed := max(0, arrived-c.last)
	c.last = max(c.last, arrived)
	if arrived-c.first < settleUs {
		c.offset = c.target
		return
	}
	diff := c.target - c.offset
	c.offset += max(min(diff, elapsed*slewUpPerMille/1000), -elapsed*slewDownPerMille/1000)
}

// wall gives the Unix microseconds of a media time.
func (c *wallClock) wall(media int64) int64 { return c.offset + media }

// bound says how far wall may be from the arrival of a frame that waited in no
// queue, microseconds: the way still to go, how much the least delay of a second
// varied over the window, and the timestamps' resolution.
func (c *wallClock) bound() int64 {
	if !c.begun {
		return 0
	}
	lo, hi := c.mins[0], c.mins[0]
	for _, m := range c.mins[:c.n] {
		lo, hi = min(lo, m), max(hi, m)
	}
	way := c.target - c.offset
	if way < 0 {
		way = -way
	}
	return way + hi - lo + c.grain
}
