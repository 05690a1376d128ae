package dash

import (
	"bytes"
	"errors"
	"strings"
)

// ErrNotOurs is given for an MPD that [MPD.Append] has not written.
var ErrNotOurs = errors.New("this is no MPD of an origin")

// WithSession gives an origin's MPD, without session, as the MPD of a session:
// with its ways to the stream, its steering and its clock.
func WithSession(mpd []byte, s *Session, clockURL string) ([]byte, error) {
	at := bytes.Index(mpd, []byte("<ServiceDescription "))
	if at < 0 || !bytes.HasPrefix(mpd, []byte("<?xml ")) || bytes.Contains(mpd[:at], []byte("<BaseURL")) {
		return nil, ErrNotOurs
	}
	w := writer{b: append(make([]byte, 0, len(mpd)+2048), mpd[:at]...)}
	(&MPD{Session: s}).session(&w)
	own, theirs := writer{}, writer{}
	(&MPD{}).utcTiming(&own)
	(&MPD{ClockURL: clockURL}).utcTiming(&theirs)
	rest := bytes.ReplaceAll(mpd[at:], own.b, theirs.b)
	if s.ClearKeyURL != "" {
		licence := writer{}
		licence.raw(strings.TrimSuffix(clearKey, "/>\n") + ` xmlns:dashif="https://dashif.org/CPS"><dashif:Laurl Lic_type="EME-1.0">`)
		licence.text(s.ClearKeyURL)
		licence.raw("</dashif:Laurl></ContentProtection>\n")
		rest = bytes.ReplaceAll(rest, []byte(clearKey), licence.b)
	}
	return append(w.b, capped(rest, s.MaxBps)...), nil
}
