package bench

import (
	"fmt"
	"strings"
)

// Plot draws a run as SVG: for each mode the sessions by CDN, and how many do not play.
func (r *FailoverReport) Plot() []byte {
	const w, h, left, top, gap = 420, 150, 60, 54, 46
	var b strings.Builder
	height := top + 2*(h+gap)
	width := left + len(r.Modes)*(w+left)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, width, height, width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%d" y="20" font-size="14">CDN %s %s at 0 s: %d viewers, %d of them with low latency, %d kbit/s, TTL %.0f s</text>`,
		left, failedCDN, r.Fault, r.Viewers, r.LowLatency, r.BitrateKbps, r.TTLSeconds)
	for i := range r.Modes {
		m := &r.Modes[i]
		if len(m.Timeline) < 2 {
			continue
		}
		first, last := m.Timeline[0].Second, m.Timeline[len(m.Timeline)-1].Second
		x0 := left + i*(w+left)
		x := func(s int) float64 { return float64(x0) + float64(s-first)/float64(last-first)*w }
		chart := func(y0 int, title string, most int, lines map[string]func(*FailoverSecond) int, order []string) {
			colour := map[string]string{"a": "#d1495b", "b": "#2e7d8c", "c": "#edae49", "stopped": "#333"}
			y := func(n int) float64 { return float64(y0+h) - float64(n)/float64(max(most, 1))*h }
			fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#bbb"/>`, x0, y0-6, title, x0, y0, w, h)
			fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#bbb" stroke-dasharray="4"/>`, x(0), x(0), y0, y0+h)
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%d</text><text x="%d" y="%d" text-anchor="end">0</text>`, x0-4, y0+10, most, x0-4, y0+h)
			for s := first; s <= last; s += 10 {
				fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%d</text>`, x(s), y0+h+14, s)
			}
			for j, name := range order {
				fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour[name])
				for k := range m.Timeline {
					fmt.Fprintf(&b, "%.1f,%.1f ", x(m.Timeline[k].Second), y(lines[name](&m.Timeline[k])))
				}
				fmt.Fprintf(&b, `"/><text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>`, x0+w-6, y0+16+14*j, colour[name], name)
			}
		}
		sessions := map[string]func(*FailoverSecond) int{}
		for _, cdn := range []string{"a", "b", "c"} {
			sessions[cdn] = func(s *FailoverSecond) int { return s.Sessions[cdn] }
		}
		chart(top, m.Mode+": sessions by the CDN that served them last", r.Viewers, sessions, []string{"a", "b", "c"})
		chart(top+h+gap, fmt.Sprintf("sessions that do not play; stopped p50 %.1f s, p95 %.1f s of those on %s", m.StallMsP50/1000, m.StallMsP95/1000, failedCDN), r.Viewers/2,
			map[string]func(*FailoverSecond) int{"stopped": func(s *FailoverSecond) int { return min(s.Stopped, r.Viewers/2) }}, []string{"stopped"})
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
