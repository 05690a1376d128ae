package viewer

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestRetriesAreThoseOfHLSJS: when a pathway is left, by what went wrong.
func TestRetriesAreThoseOfHLSJS(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  request
		err   error
		tries int // requests before it is left
		waits time.Duration
	}{
		{"connection closed", forPlaylist, errors.New("EOF"), 1, 0},
		{"404", forPlaylist, &statusError{404, ""}, 1, 0},
		{"503", forPlaylist, &statusError{503, ""}, 3, 3 * time.Second},
		{"503 of sound's playlist", forAudioPlaylist, &statusError{503, ""}, 1, 0},
		{"no answer", forPlaylist, context.Canceled, 3, 0},
		{"no answer, media", forMedia, context.DeadlineExceeded, 5, 0},
		{"503, media", forMedia, &statusError{503, ""}, 7, 31 * time.Second},
	} {
		tries, waits := 1, time.Duration(0)
		for {
			wait, same := c.kind.again(c.err, tries-1)
			if !same {
				break
			}
			tries, waits = tries+1, waits+wait
		}
		if tries != c.tries || waits != c.waits {
			t.Errorf("%s: left after %d requests and %v, want %d and %v", c.name, tries, waits, c.tries, c.waits)
		}
	}
}

func TestClonedPathway(t *testing.T) {
	base, err := url.Parse("http://r/v1/play/live/demo/multivariant.m3u8")
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseMultivariant(strings.Join([]string{
		"#EXTM3U", `#EXT-X-CONTENT-STEERING:SERVER-URI="http://r/s",PATHWAY-ID="a"`,
		`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="audio",STABLE-RENDITION-ID="src-audio",URI="http://a:81/au.m3u8"`,
		`#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=2x2,AUDIO="g",STABLE-VARIANT-ID="src",PATHWAY-ID="a"`, "http://a:81/v.m3u8",
	}, "\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	byHost, whole := clone{Base: "a", ID: "b"}, clone{Base: "a", ID: "c"}
	byHost.URI.Host = "b"
	whole.URI.PerVariant, whole.URI.PerRendition = map[string]string{"src": "https://c/x/v.m3u8"}, map[string]string{"src-audio": "https://c/x/au.m3u8"}
	m.clone(&byHost)
	m.clone(&whole)
	m.clone(&clone{Base: "none", ID: "d"})
	if p := m.paths["b"]; p == nil || p.video != "http://b:81/v.m3u8" || p.audio != "http://b:81/au.m3u8" || p.host != "b:81" {
		t.Errorf("%+v", p)
	}
	if p := m.paths["c"]; p == nil || p.video != "https://c/x/v.m3u8" || p.audio != "https://c/x/au.m3u8" || p.host != "c" {
		t.Errorf("%+v", p)
	}
	if len(m.paths) != 3 || m.paths["a"].video != "http://a:81/v.m3u8" {
		t.Errorf("%v", m.order)
	}
}
