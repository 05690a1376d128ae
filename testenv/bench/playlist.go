package bench

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// renditions are the media playlists a player needs: that of the first variant, and of its audio if apart.
type renditions struct{ video, audio string }

// parseMultivariant reads a multivariant playlist; ok is false for a media playlist.
func parseMultivariant(text string, base *url.URL) (r renditions, ok bool, err error) {
	if !strings.HasPrefix(text, "#EXTM3U") {
		return r, false, fmt.Errorf("not a playlist: %.80q", text)
	}
	group, variant := "", false
	audio := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-MEDIA" && attribute(value, "TYPE") == "AUDIO" && attribute(value, "URI") != "":
			u, err := base.Parse(attribute(value, "URI"))
			if err != nil {
				return r, false, fmt.Errorf("audio rendition: %w", err)
			}
			if id := attribute(value, "GROUP-ID"); audio[id] == "" {
				audio[id] = u.String()
			}
		case tag == "#EXT-X-STREAM-INF":
			group, variant = attribute(value, "AUDIO"), true
		case variant && line != "" && line[0] != '#' && r.video == "":
			u, err := base.Parse(line)
			if err != nil {
				return r, false, fmt.Errorf("variant: %w", err)
			}
			r.video, r.audio = u.String(), audio[group]
		}
	}
	return r, r.video != "", nil
}

// mediaPlaylist is what following a live stream needs.
type mediaPlaylist struct {
	canBlock, canSkip bool
	initURI           string
	parts             []listedPart // of all segments listed, in order
	segments          int          // complete ones
	nextMSN           int64        // and nextPart: what a blocking reload asks for
	nextPart          int
}

// listedPart is one partial segment.
type listedPart struct {
	msn  int64
	part int
	uri  string
	end  time.Time // program date time of its end; zero if the playlist does not say
}

// parseMedia reads a media playlist. starts remembers where segments begin, by media sequence number, because
// a delta update may leave out the date of those it lists; it is kept up to date.
func parseMedia(text string, base *url.URL, starts map[int64]time.Time) (*mediaPlaylist, error) {
	if !strings.HasPrefix(text, "#EXTM3U") {
		return nil, fmt.Errorf("not a playlist: %.80q", text)
	}
	m := &mediaPlaylist{}
	var msn int64
	var part int
	var clock time.Time // of the next part's beginning
	var segment time.Duration
	var fault error
	resolve := func(ref string) string {
		u, err := base.Parse(ref)
		if err != nil {
			fault = fmt.Errorf("address %.80q: %w", ref, err)
			return ""
		}
		return u.String()
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		tag, value, _ := strings.Cut(line, ":")
		switch tag {
		case "#EXT-X-SERVER-CONTROL":
			m.canBlock = attribute(value, "CAN-BLOCK-RELOAD") == "YES"
			m.canSkip = attribute(value, "CAN-SKIP-UNTIL") != ""
		case "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("media sequence number: %w", err)
			}
			msn = n
		case "#EXT-X-SKIP":
			n, err := strconv.ParseInt(attribute(value, "SKIPPED-SEGMENTS"), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("skipped segments: %w", err)
			}
			msn += n
			clock = starts[msn]
		case "#EXT-X-MAP":
			m.initURI = resolve(attribute(value, "URI"))
		case "#EXT-X-PROGRAM-DATE-TIME":
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				if t, err = time.Parse("2006-01-02T15:04:05.999999999Z0700", value); err != nil {
					return nil, fmt.Errorf("program date time: %w", err)
				}
			}
			clock = t
		case "#EXT-X-PART":
			if part == 0 {
				starts[msn] = clock
			}
			if !clock.IsZero() {
				clock = clock.Add(seconds(attribute(value, "DURATION")))
			}
			m.parts = append(m.parts, listedPart{msn, part, resolve(attribute(value, "URI")), clock})
			part++
		case "#EXTINF":
			d, _, _ := strings.Cut(value, ",")
			segment = seconds(d)
		default:
			if line == "" || line[0] == '#' {
				continue
			}
			if part == 0 {
				starts[msn] = clock
				if !clock.IsZero() {
					clock = clock.Add(segment)
				}
			}
			m.segments++
			msn, part = msn+1, 0
		}
	}
	m.nextMSN, m.nextPart = msn, part
	for n := range starts {
		if n < msn-1000 {
			delete(starts, n)
		}
	}
	if m.segments == 0 && len(m.parts) == 0 {
		return nil, errors.New("the media playlist lists nothing")
	}
	return m, fault
}

func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(f >= 0 && f < 1e6) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

// attribute gives the value of one name in an attribute list, without quotes; empty if it is not there.
func attribute(list, name string) string {
	for list != "" {
		k, rest, ok := strings.Cut(list, "=")
		if !ok {
			return ""
		}
		var v string
		if strings.HasPrefix(rest, `"`) {
			v, rest, _ = strings.Cut(rest[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			v, rest, _ = strings.Cut(rest, ",")
		}
		if strings.TrimSpace(k) == name {
			return v
		}
		list = rest
	}
	return ""
}
