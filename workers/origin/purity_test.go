package origin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// everything gives the hash of each object of a stream: all that depends on the
// chunks alone, and nothing of the time of day.
func everything(t *testing.T, clip *media.Clip) map[string]string {
	t.Helper()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, clip, b.JS)
	p.Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	push(t, p, b.JS, 64)
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=11&_HLS_part=3")
	get(t, o.url+audioPath+"playlist.m3u8?_HLS_msn=11&_HLS_part=2")
	out := map[string]string{}
	add := func(path string) {
		a := get(t, o.url+path)
		if a.code != 200 {
			t.Fatalf("%s: %d %s", path, a.code, a.body)
		}
		body := a.body
		if strings.HasSuffix(path, "/playlist.m3u8") && !strings.Contains(path, "/ts/") {
			body = withoutReports(body) // where the other track stood depends on who asked first
		}
		h := sha256.Sum256(body)
		out[path] = hex.EncodeToString(h[:])
	}
	add("/live/one/manifest.mpd")
	for _, list := range []string{videoPath + "playlist.m3u8", audioPath + "playlist.m3u8", videoPath + "iframes.m3u8", "/live/one/src/ts/playlist.m3u8"} {
		add(list)
	}
	for msn := 5; msn <= 10; msn++ {
		for _, track := range []string{videoPath, audioPath} {
			add(fmt.Sprintf("%s1-%d.m4s", track, msn))
			for part := range 9 {
				add(fmt.Sprintf("%s1-%d.%d.m4s", track, msn, part))
			}
		}
		add(fmt.Sprintf("%s1-%d.key.m4s", videoPath, msn))
		add(fmt.Sprintf("/live/one/src/ts/1-%d.ts", msn))
	}
	return out
}

// The same chunks on two systems that know nothing of each other give the same
// bytes in every format. What may differ is the answers that name the time of
// day (clock) and those that are made of ingest's measurements (multivariant).
func TestTheSameChunksGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	one, two := everything(t, clip), everything(t, clip)
	for path, hash := range one {
		if two[path] != hash {
			t.Errorf("%s differs", path)
		}
	}
	t.Logf("%d objects, the same at both", len(one))
}

// Who joins in the middle of a group of pictures needs no key frame to come:
// where a player starts, PART-HOLD-BACK before the end or earlier, a part that
// decoding can start at is listed and there.
func TestJoiningWaitsForNoKeyFrame(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 17) // the middle of the second segment; no more come
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=6&_HLS_part=6")
	m := mediaPlaylist(t, get(t, o.url+videoPath+"playlist.m3u8"))
	before, found := time.Duration(0), ""
	for _, part := range m.Parts {
		before += part.Duration
		if part.Independent {
			found = part.URI
		}
	}
	if found == "" || found != "1-6.0.m4s" || before < time.Second {
		t.Fatalf("the last part to start at is %q, %v before the end", found, before)
	}
	if a := get(t, o.url+videoPath+found); a.code != 200 {
		t.Errorf("%s: %d", found, a.code)
	}
}
