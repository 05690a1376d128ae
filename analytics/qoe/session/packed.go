package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A session rests as a packed string of bytes and is unpacked only when a row or
// its due time touches it: a million open sessions then hold about a gigabyte,
// where their structs would hold seven, the garbage collector has next to
// nothing to follow, and a snapshot is the packed bytes as they are.

// codec writes or reads the fields of a session; one walk over the fields does
// both, so that they cannot differ.
type codec struct {
	t      *Table // for its words
	b      []byte
	read   bool
	err    error
	baseMs int64 // times are written as what they are after this
}

var errPacked = errors.New("packed session is damaged")

func (c *codec) i64(v *int64) {
	// Nearly all are small: a byte in zigzag, as binary.Varint has it.
	if !c.read {
		if z := uint64(*v)<<1 ^ uint64(*v>>63); z < 0x80 {
			c.b = append(c.b, byte(z))
			return
		}
		c.b = binary.AppendVarint(c.b, *v)
		return
	}
	if len(c.b) > 0 && c.b[0] < 0x80 {
		z := c.b[0]
		*v, c.b = int64(z>>1)^-int64(z&1), c.b[1:]
		return
	}
	x, n := binary.Varint(c.b)
	if n <= 0 {
		c.err, c.b = errPacked, nil
		return
	}
	*v, c.b = x, c.b[n:]
}

func (c *codec) i64s(vs ...*int64) {
	for _, v := range vs {
		c.i64(v)
	}
}

// time is a Unix time or 0, which stays 0.
func (c *codec) time(v *int64) {
	x := *v
	if x != 0 {
		x += 1 - c.baseMs
		if x <= 0 {
			x--
		}
	}
	c.i64(&x)
	if !c.read {
		return
	}
	switch {
	case x == 0:
		*v = 0
	case x < 0:
		*v = x + c.baseMs
	default:
		*v = x - 1 + c.baseMs
	}
}

func (c *codec) i32(v *int32) {
	x := int64(*v)
	c.i64(&x)
	*v = int32(x)
}

func (c *codec) int(v *int) {
	x := int64(*v)
	c.i64(&x)
	*v = int(x)
}

func (c *codec) u64(v *uint64) {
	x := int64(*v)
	c.i64(&x)
	*v = uint64(x)
}

func (c *codec) byte(v *byte) {
	if !c.read {
		c.b = append(c.b, *v)
		return
	}
	if len(c.b) == 0 {
		c.err = errPacked
		return
	}
	*v, c.b = c.b[0], c.b[1:]
}

// bools packs up to eight.
func (c *codec) bools(vs ...*bool) {
	var x byte
	for i, v := range vs {
		if *v {
			x |= 1 << i
		}
	}
	c.byte(&x)
	for i, v := range vs {
		*v = x&(1<<i) != 0
	}
}

// count is the length of what follows, of which each piece takes at least a byte.
func (c *codec) count(n int) int {
	c.int(&n)
	if c.read && (n < 0 || n > len(c.b)) {
		c.err, c.b = errPacked, nil
		return 0
	}
	return n
}

func (c *codec) str(v *string) {
	n := c.count(len(*v))
	if !c.read {
		c.b = append(c.b, *v...)
		return
	}
	*v, c.b = string(c.b[:n]), c.b[n:]
}

// word is a string that many sessions have: its number stands for it.
func (c *codec) word(v *string) {
	if !c.read {
		if k, ok := c.t.numbers[*v]; ok {
			c.b = binary.AppendVarint(c.b, int64(k))
			return
		}
		c.b = binary.AppendVarint(c.b, -1) // the table of words is full
		c.str(v)
		return
	}
	var k int64
	c.i64(&k)
	switch {
	case k == -1:
		c.str(v)
	case k >= 0 && k < int64(len(c.t.words)):
		*v = c.t.words[k]
	default:
		c.err = errPacked
	}
}

func (c *codec) bins(v *[]binCount) {
	n := c.count(len(*v))
	if c.read {
		*v = slices.Grow((*v)[:0], n)[:n]
	}
	last := int64(0)
	for i := range *v {
		b := &(*v)[i]
		d := b.Bin - last
		c.i64s(&d, &b.N)
		if c.read {
			b.Bin = last + d
		}
		last = b.Bin
	}
}

// same notes whether two lists of bins are equal, and then writes nothing of the second.
func (c *codec) sameBins(a, b *[]binCount) {
	same := slices.Equal(*a, *b)
	c.bools(&same)
	switch {
	case !same:
		c.bins(b)
	case c.read:
		*b = append((*b)[:0], *a...)
	}
}

func (c *codec) events(v *[]event) {
	n := c.count(len(*v))
	if c.read {
		*v = slices.Grow((*v)[:0], n)[:n]
		clear(*v)
	}
	for i := range *v {
		e := &(*v)[i]
		c.time(&e.Ts)
		c.i64(&e.Sn)
		c.byte(&e.Kind)
		c.byte(&e.Sta)
		c.i32(&e.Val)
		c.bools(&e.Soft, &e.Page)
	}
}

func (c *codec) prints(v *[]uint32) {
	n := c.count(len(*v))
	if !c.read {
		for _, x := range *v {
			c.b = binary.LittleEndian.AppendUint32(c.b, x)
		}
		return
	}
	if len(c.b) < 4*n {
		c.err, c.b = errPacked, nil
		return
	}
	*v = slices.Grow((*v)[:0], n)[:n]
	for i := range *v {
		(*v)[i] = binary.LittleEndian.Uint32(c.b[4*i:])
	}
	c.b = c.b[4*n:]
}

func (c *codec) counters(v *counters) {
	c.i64s(&v.Attempts, &v.Starts, &v.StartupMs, &v.ExitBefore, &v.StartFails, &v.PlayFails,
		&v.PlayedMs, &v.StalledMs, &v.Stalls, &v.SeekMs, &v.PausedMs, &v.Switches,
		&v.LatSum, &v.LatWeight, &v.BrSum, &v.BrWeight, &v.StalledNetwork, &v.StalledCDN, &v.StalledHidden)
}

func (c *codec) loose(v *loose) {
	c.i64s(&v.Sessions, &v.Ended, &v.CDNMoves, &v.Dropped, &v.Requests, &v.RequestErrors, &v.RequestBytes, &v.Reports, &v.Lost, &v.FramesMs, &v.Numbered, &v.Throughput, &v.Measured)
}

func (c *codec) machine(m *machine) {
	c.time(&m.At)
	c.byte(&m.Sta)
	c.bools(&m.Open, &m.Started, &m.Failed, &m.Seeking, &m.NewLoad, &m.HasLat)
	c.byte(&m.Over)
	c.time(&m.StartTs)
	c.byte(&m.StartBy)
	c.i32(&m.Bitrate)
	c.i32(&m.Latency)
	c.i64(&m.NoLatMs)
	c.stall(&m.Stall)
	c.counters(&m.C)
}

// stall takes a byte where nothing is known of any.
func (c *codec) stall(s *stall) {
	none := *s == stall{}
	c.bools(&none, &s.Hidden)
	if none {
		if c.read {
			*s = stall{}
		}
		return
	}
	c.time(&s.FromMs)
	c.i64(&s.CountedMs)
	c.byte(&s.Cause)
	c.time(&s.SlowMs)
	c.time(&s.ErrorMs)
}

// track takes a byte where nothing is numbered.
func (c *codec) track(s *snTrack) {
	none := *s == snTrack{}
	c.bools(&none, &s.Started)
	if none {
		if c.read {
			*s = snTrack{}
		}
		return
	}
	c.i64s(&s.Last, &s.Max, &s.LostHere, &s.LostDone)
	c.u64(&s.Window)
}

// walk goes through all of a session but its ID.
func (o *one) walk(c *codec) {
	c.i64(&o.FirstMs)
	c.baseMs = o.FirstMs
	d := &o.D
	c.str(&d.ViewerID)
	for _, w := range []*string{
		&d.App, &d.Stream, &d.CDN, &d.Server, &d.Protocol, &d.Region, &d.ISP, &d.Country,
		&d.Device, &d.OS, &d.Client, &d.ClientVer, &d.Network, &d.Arms,
	} {
		c.word(w)
	}
	c.machine(&o.Base)
	c.machine(&o.Now)
	if c.read {
		o.Base.First, o.Now.First, o.SentF = nil, nil, nil // shared by value: never into old memory
	}
	c.bins(&o.Base.First)
	c.sameBins(&o.Base.First, &o.Now.First)
	c.sameBins(&o.Now.First, &o.SentF)
	c.events(&o.Log)
	c.loose(&o.L)
	c.bins(&o.Lat)
	c.sameBins(&o.Lat, &o.SentA)
	c.counters(&o.SentC)
	c.loose(&o.SentL)
	c.time(&o.SeenMs)
	c.time(&o.SentMs)
	c.time(&o.LastTs)
	c.i64(&o.OffsetMs)
	c.i64(&o.GapMs)
	c.bools(&o.E2E, &o.UsePB, &o.HasOffset, &o.CDNKnown, &o.Over, &o.Closed, &o.Dirty, &o.Frames)
	c.i64s(&o.FrameBase, &o.FrameLast)
	c.track(&o.Sn)
	c.track(&o.PageSn)
	c.time(&o.PageFrom)
	c.prints(&o.Recent)
	c.int(&o.RecentAt)
	c.time(&o.OverMs)
	c.time(&o.ClosedMs)
	c.word(&o.EndReason)
}

// pack writes o over b's memory.
func (t *Table) pack(o *one, b []byte) []byte {
	c := codec{t: t, b: b[:0]}
	o.walk(&c)
	return c.b
}

// unpack reads what pack wrote into o, whose memory is used again.
func (t *Table) unpack(b []byte, o *one) error {
	c := codec{t: t, b: b, read: true}
	o.walk(&c)
	if c.err == nil && len(c.b) > 0 {
		c.err = fmt.Errorf("%w: %d bytes too many", errPacked, len(c.b))
	}
	if c.err == nil && (o.RecentAt < 0 || o.RecentAt > len(o.Recent)) {
		c.err = errPacked
	}
	return c.err
}
