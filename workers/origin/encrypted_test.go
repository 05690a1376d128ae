package origin

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/cenc"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/keys"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// keyFileText is a key file with a secret.
func keyFileText() []byte {
	return []byte(`{"secret":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{42}, 32)) + `"}`)
}

func encrypted(t testing.TB, rotate uint64) *schemas.Encryption {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, keyFileText(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &schemas.Encryption{Scheme: "cbcs", KeyURL: "file://" + path, RotateSegments: rotate}
}

// decrypted gives the samples of a segment with the key of its period.
func decrypted(t *testing.T, e *schemas.Encryption, init, segment []byte) []cmaf.Sample {
	t.Helper()
	info, err := cmaf.ParseInit(init)
	if err != nil || !info.Encrypted {
		t.Fatalf("the init segment is not an encrypted one: %+v: %v", info, err)
	}
	kid, err := cenc.ParseKID(info.KID)
	if err != nil {
		t.Fatal(err)
	}
	key, err := (&keys.Ring{}).ByKID(context.Background(), e, key, kid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mp4.DecodeFile(bytes.NewReader(append(bytes.Clone(init), segment...)))
	if err != nil {
		t.Fatal(err)
	}
	di, err := mp4.DecryptInit(f.Init)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, s := range f.Segments {
		if err := mp4.DecryptSegment(s, di, key.Key[:]); err != nil {
			t.Fatal(err)
		}
		if err := s.Encode(&out); err != nil {
			t.Fatal(err)
		}
	}
	s, err := cmaf.Samples(nil, out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	keyTag = regexp.MustCompile(`#EXT-X-KEY:METHOD=SAMPLE-AES,URI="data:text/plain;base64,[A-Za-z0-9+/=]{24}",KEYID=0x([0-9a-f]{32}),KEYFORMAT="org.w3.clearkey"`)
	mapTag = regexp.MustCompile(`#EXT-X-MAP:URI="(init-[0-9a-f]{32}\.mp4)"`)
)

// An encrypted stream whose key changes every third segment: an origin that
// takes packagers' parts and one that makes its own say and serve the same, and
// with the keys that the playlists name every sample is what was published.
func TestEncryptedStream(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	clip := media.Load(t)
	e := encrypted(t, 3)
	o1, o2 := run(t, b.JS, usePackagers), run(t, b.JS)
	pack(t, b.JS)
	p := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5, Encryption: e}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p, b.JS, 10*media.SegmentParts+1)
	want := map[schemas.Track][]cmaf.Sample{}
	clear := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5}
	for range 10*media.SegmentParts + 1 {
		c, payload := clear.Chunk()
		for _, f := range c.Fragments {
			s, err := cmaf.Samples(nil, payload[f.Offset:f.Offset+f.Size])
			if err != nil {
				t.Fatal(err)
			}
			want[f.Track] = append(want[f.Track], s...)
		}
	}
	for kind, path := range map[schemas.Track]string{schemas.Video: videoPath, schemas.Audio: audioPath} {
		const query = "playlist.m3u8?_HLS_msn=14&_HLS_part=9"
		var a, c answer
		await.True(t, "both origins have the segment", func() bool { // one that is two segments behind refuses to wait for it
			a, c = get(t, o1.url+path+query), get(t, o2.url+path+query)
			return a.code == 200 && c.code == 200
		})
		if !bytes.Equal(withoutReports(a.body), withoutReports(c.body)) {
			t.Fatalf("origins differ: %d %d\n%s\n%s", a.code, c.code, a.body, c.body)
		}
		// Periods begin at 6, 9 and 12, and delta updates say the key again.
		kids := keyTag.FindAllSubmatch(a.body, -1)
		if len(kids) < 3 || bytes.Equal(kids[0][1], kids[1][1]) {
			t.Errorf("%s: keys %q in\n%s", kind, kids, a.body)
		}
		delta := get(t, o1.url+path+"playlist.m3u8?_HLS_skip=YES").body
		if i, j := bytes.Index(delta, []byte("#EXT-X-KEY")), bytes.Index(delta, []byte("#EXTINF")); i < 0 || i > j {
			t.Errorf("%s: a delta update without the key:\n%s", kind, delta)
		}
		init, got, at := "", 0, 0
		for line := range strings.SplitSeq(string(a.body), "\n") {
			if m := mapTag.FindStringSubmatch(line); m != nil {
				init = m[1]
			}
			if !strings.HasSuffix(line, ".m4s") {
				continue
			}
			x, y := get(t, o1.url+path+line), get(t, o2.url+path+line)
			if x.code != 200 || !bytes.Equal(x.body, y.body) {
				t.Fatalf("%s: %d with %d bytes, %d with %d", line, x.code, len(x.body), y.code, len(y.body))
			}
			samples := decrypted(t, e, get(t, o2.url+path+init).body, x.body)
			for at < len(want[kind]) && want[kind][at].DTS != samples[0].DTS {
				at++
			}
			for i := range samples {
				if w := &want[kind][at+i]; samples[i].DTS != w.DTS || !bytes.Equal(samples[i].Data, w.Data) {
					t.Fatalf("%s: sample %d is not what was published", line, i)
				}
			}
			got += len(samples)
		}
		if got < 100 {
			t.Errorf("%s: %d samples", kind, got)
		}
	}
	if a := get(t, o2.url+"/live/one/src/ts/playlist.m3u8"); a.code != 404 || !bytes.Contains(a.body, []byte("encrypted")) {
		t.Errorf("MPEG-TS of an encrypted stream: %d %s", a.code, a.body)
	}
	if a := get(t, o2.url+videoPath+"iframes.m3u8"); a.code != 404 || !bytes.Contains(a.body, []byte("encrypted")) {
		t.Errorf("key frames of an encrypted stream: %d %s", a.code, a.body)
	}
}

// Without its key nothing of a stream is served, and the reason is said; it
// begins by itself once there is a key.
func TestNoKeyNoMedia(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	path := filepath.Join(t.TempDir(), "keys.json")
	o := run(t, b.JS, usePackagers)
	pack(t, b.JS)
	p := &media.Publisher{Clip: media.Load(t), Key: key, FirstMSN: 5, Encryption: &schemas.Encryption{Scheme: "cbcs", KeyURL: "file://" + path}}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p, b.JS, 3*media.SegmentParts)
	a := get(t, o.url+videoPath+"playlist.m3u8")
	if a.code != 503 || !bytes.Contains(a.body, []byte("no key of live/one")) {
		t.Fatalf("%d %s", a.code, a.body)
	}
	for msn := 5; msn < 8; msn++ {
		if a := get(t, o.url+videoPath+"1-"+strconv.Itoa(msn)+".0.m4s"); a.code == 200 {
			t.Fatal("media without a key")
		}
	}
	if n := gauge(o.m.received); n != 0 {
		t.Errorf("packagers sent %g parts", n)
	}
	events, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	await.True(t, "an event says it", func() bool {
		i, err := events.Info(t.Context())
		if err != nil {
			return false
		}
		m, err := events.GetMsg(t.Context(), i.State.LastSeq)
		return err == nil && bytes.Contains(m.Data, []byte("no_key"))
	})
	if err := os.WriteFile(path, keyFileText(), 0o600); err != nil {
		t.Fatal(err)
	}
	await.True(t, "it plays", func() bool {
		a := get(t, o.url+videoPath+"playlist.m3u8")
		return a.code == 200 && keyTag.Match(a.body) && bytes.Contains(a.body, []byte("1-6.m4s"))
	})
}

// What was recorded of an encrypted stream is what was served live, and its
// playlist names the keys.
func TestSeekBackEncrypted(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	objects := shelfOf(t)
	e := encrypted(t, 4)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 120, Encryption: e})
	record(t, b.JS, objects)
	o := run(t, b.JS, func(o *Origin) { o.Store = objects })
	clip := media.Load(t)
	p := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5, Start: time.Now(), Encryption: e}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p, b.JS, 12*seconds)
	listed(t, o, "playlist.m3u8?_HLS_msn=10")
	young := get(t, o.url+videoPath+"1-5.m4s")
	push(t, p, b.JS, 68*seconds+1)
	await.True(t, "everything is recorded", func() bool { return recordedVideo(t, objects) >= 40 })
	listed(t, o, "playlist.m3u8?_HLS_msn=45&_HLS_part=0")
	dvr := get(t, o.url+videoPath+"dvr.m3u8?_HLS_msn=44")
	if n := len(keyTag.FindAll(dvr.body, -1)); dvr.code != 200 || n != 11 || n != len(mapTag.FindAll(dvr.body, -1)) {
		t.Errorf("%d keys: %d %s", n, dvr.code, dvr.body)
	}
	late := run(t, b.JS, func(o *Origin) { o.Store = objects })
	old := get(t, late.url+videoPath+"1-5.m4s")
	if young.code != 200 || !bytes.Equal(old.body, young.body) {
		t.Errorf("%d with %d bytes; when it was new %d with %d", old.code, len(old.body), young.code, len(young.body))
	}
	decrypted(t, e, get(t, late.url+videoPath+mapTagOf(dvr.body)).body, old.body)
}

func mapTagOf(b []byte) string { return string(mapTag.FindSubmatch(b)[1]) }
