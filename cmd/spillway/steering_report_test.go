package main

import (
	"fmt"
	"strings"
	"time"
)

// steeringReport is what players did when their CDN became slow.
type steeringReport struct {
	Steady time.Duration // for which they had played before
	Views  []steeredView
	// Clone is when hls.js was served by a CDN of which it learnt by a clone, seconds from the end of the one it was on.
	Clone float64
}

type steeredView struct {
	Name string
	// LeftS is when another CDN served it for good, seconds from the fault; StalledMs and Stalls are from the fault until then.
	LeftS     float64
	Stalls    int
	StalledMs int64
}

func (r *steeringReport) add(before, after *steeredPlayer, fault time.Time, to string) {
	r.Views = append(r.Views, steeredView{
		Name: after.Name, LeftS: float64(after.last(to)-fault.UnixMilli()) / 1000,
		Stalls: after.Seen.Stalls - before.Seen.Stalls, StalledMs: after.Seen.StalledMs - before.Seen.StalledMs,
	})
}

// plot draws, for each player, the time on the slow CDN and what it stood still of it.
func (r *steeringReport) plot() []byte {
	const left, width, row = 110, 460, 34
	most := 1.0
	for _, v := range r.Views {
		most = max(most, v.LeftS, float64(v.StalledMs)/1000)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`, left+width+120, 40+row*len(r.Views))
	fmt.Fprintf(&b, `<text x="10" y="18" font-size="14">An edge that gives each answer %s: time until the player is served by another CDN, and time stalled</text>`, starved)
	for i, v := range r.Views {
		y, stalled := 32+i*row, float64(v.StalledMs)/1000
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+16, v.Name)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="11" fill="#2e7d8c"/><text x="%.1f" y="%d">left after %.1f s</text>`, left, y, v.LeftS/most*width, left+v.LeftS/most*width+6, y+10, v.LeftS)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="11" fill="#d1495b"/><text x="%.1f" y="%d">%d stalls, %.1f s</text>`, left, y+13, stalled/most*width, left+stalled/most*width+6, y+23, v.Stalls, stalled)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
