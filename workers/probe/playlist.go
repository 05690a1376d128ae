package probe

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// newest is the newest part, or segment, that a media playlist lists.
type newest struct {
	uri string
	// end is the wall-clock at its end (EXT-X-PROGRAM-DATE-TIME and durations).
	end time.Time
}

// maxPlaylist bounds a playlist that is read, bytes.
const maxPlaylist = 1 << 20

// readPlaylist finds the newest media of a playlist (RFC 8216bis). Times count
// from the last EXT-X-PROGRAM-DATE-TIME; without one there is no answer.
func readPlaylist(text string) (newest, error) {
	if !strings.HasPrefix(text, "#EXTM3U") {
		return newest{}, fmt.Errorf("it is no playlist")
	}
	var n newest
	var at time.Time // end of the segments so far
	var parts, segment float64
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#EXT-X-PROGRAM-DATE-TIME:"):
			t, err := time.Parse(time.RFC3339Nano, line[len("#EXT-X-PROGRAM-DATE-TIME:"):])
			if err != nil {
				return newest{}, fmt.Errorf("program date time %.40q", line)
			}
			at = t
		case strings.HasPrefix(line, "#EXTINF:"):
			v, _, _ := strings.Cut(line[len("#EXTINF:"):], ",")
			s, err := seconds(v)
			if err != nil {
				return newest{}, err
			}
			segment = s
		case strings.HasPrefix(line, "#EXT-X-PART:"):
			uri, s, err := partOf(line[len("#EXT-X-PART:"):])
			if err != nil {
				return newest{}, err
			}
			parts += s
			n = newest{uri, at.Add(time.Duration(parts * float64(time.Second)))}
		case line != "" && line[0] != '#':
			at, parts = at.Add(time.Duration(segment*float64(time.Second))), 0
			if n.end.Before(at) || n.uri == "" {
				n = newest{line, at}
			}
			segment = 0
		}
	}
	switch {
	case n.uri == "":
		return n, fmt.Errorf("it lists no media")
	case at.IsZero() || at.Year() < 2000:
		return n, fmt.Errorf("it has no program date time")
	}
	return n, nil
}

func seconds(v string) (float64, error) {
	s, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || !(s >= 0 && s < 3600) {
		return 0, fmt.Errorf("duration %.20q", v)
	}
	return s, nil
}

// partOf reads URI and DURATION of an EXT-X-PART.
func partOf(attributes string) (uri string, s float64, err error) {
	for a := range strings.SplitSeq(attributes, ",") {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "URI":
			uri = strings.Trim(v, `"`)
		case "DURATION":
			if s, err = seconds(v); err != nil {
				return "", 0, err
			}
		}
	}
	if uri == "" {
		return "", 0, fmt.Errorf("a part without URI")
	}
	return uri, s, nil
}

// warmSegments is how many of the newest segments a player that begins may ask for.
const warmSegments = 3

// newestMedia gives what a player that begins now asks for: the init segment, the
// last segments, and the parts behind them.
func newestMedia(text string) []string {
	var init string
	var segments, parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#EXT-X-MAP:"):
			if uri, _, err := partOf(line[len("#EXT-X-MAP:"):]); err == nil {
				init = uri
			}
		case strings.HasPrefix(line, "#EXT-X-PART:"):
			if uri, _, err := partOf(line[len("#EXT-X-PART:"):]); err == nil {
				parts = append(parts, uri)
			}
		case line != "" && line[0] != '#':
			segments, parts = append(segments, line), nil
		}
	}
	var out []string
	if init != "" {
		out = append(out, init)
	}
	return append(append(out, segments[max(0, len(segments)-warmSegments):]...), parts...)
}
