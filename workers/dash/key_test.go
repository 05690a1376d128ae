package dash

import (
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// An MPD names the key, and a session's where its licence is given.
func TestProtection(t *testing.T) {
	m := MPD{WindowUs: 20_000_000, Periods: []Period{{Epoch: 1, Line: schemas.Line{ZeroUnixUs: 1, SegmentUs: 2_000_000}, Sets: []Representation{{
		Rendition: "src", Track: schemas.Video, Epoch: 1, InitID: strings.Repeat("0", 32), KID: "000102030405060708090a0b0c0d0e0f", Timescale: 90000,
	}}}}}
	b := m.Append(nil)
	if !strings.Contains(string(b), `cenc:default_KID="00010203-0405-0607-0809-0a0b0c0d0e0f"`) || strings.Contains(string(b), "Laurl") {
		t.Errorf("%s", b)
	}
	s, err := WithSession(b, &Session{ClearKeyURL: "http://r/v1/keys/clearkey?t=1&x"}, "")
	if err != nil || !strings.Contains(string(s), `<dashif:Laurl Lic_type="EME-1.0">http://r/v1/keys/clearkey?t=1&amp;x</dashif:Laurl>`) {
		t.Errorf("%v: %s", err, s)
	}
}
