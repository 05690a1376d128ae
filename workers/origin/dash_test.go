package origin

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// mpd is what the tests read of an MPD.
type mpd struct {
	Type    string `xml:"type,attr"`
	Start   string `xml:"availabilityStartTime,attr"`
	Periods []struct {
		ID       string `xml:"id,attr"`
		Start    string `xml:"start,attr"`
		Duration string `xml:"duration,attr"`
		Sets     []struct {
			ContentType     string `xml:"contentType,attr"`
			Representations []struct {
				ID       string `xml:"id,attr"`
				Codecs   string `xml:"codecs,attr"`
				Template struct {
					Media       string `xml:"media,attr"`
					Init        string `xml:"initialization,attr"`
					StartNumber uint64 `xml:"startNumber,attr"`
					EndNumber   uint64 `xml:"endNumber,attr"`
					Duration    uint64 `xml:"duration,attr"`
					Offset      string `xml:"availabilityTimeOffset,attr"`
					Complete    string `xml:"availabilityTimeComplete,attr"`
					Timeline    []struct {
						D uint64 `xml:"d,attr"`
					} `xml:"SegmentTimeline>S"`
				} `xml:"SegmentTemplate"`
			} `xml:"Representation"`
		} `xml:"AdaptationSet"`
	} `xml:"Period"`
}

func getMPD(t *testing.T, o *testOrigin) (mpd, []byte) {
	t.Helper()
	a := get(t, o.url+"/live/one/manifest.mpd")
	if a.code != 200 || a.header.Get("Content-Type") != "application/dash+xml" {
		t.Fatalf("MPD: %d %s", a.code, a.body)
	}
	var m mpd
	if err := xml.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%v\n%s", err, a.body)
	}
	return m, a.body
}

// The MPD names segments that can be had, a publisher that comes back begins a
// Period, and two origins answer the same bytes.
func TestMPD(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o1, o2 := run(t, b.JS), run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	p := publisher(t, clip, b.JS)
	p.Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	push(t, p, b.JS, 25)
	wait := func(o *testOrigin, query string) {
		t.Helper()
		if a := get(t, o.url+videoPath+"playlist.m3u8?"+query); a.code != 200 {
			t.Fatalf("%s: %d %s", query, a.code, a.body)
		}
	}
	wait(o1, "_HLS_msn=7&_HLS_part=4")
	m, _ := getMPD(t, o1)
	if len(m.Periods) != 1 || m.Periods[0].ID != "e1.0" || len(m.Periods[0].Sets) != 2 || m.Start != "1970-01-01T00:00:00Z" || m.Type != "dynamic" {
		t.Fatalf("%+v", m)
	}
	v := m.Periods[0].Sets[0].Representations[0]
	if !strings.HasPrefix(v.Codecs, "avc1.") || v.Template.StartNumber != 5 || v.Template.Duration == 0 || v.Template.Complete != "false" || v.Template.Offset != "1.3" {
		t.Errorf("%+v", v)
	}
	if a := get(t, o1.url+"/live/one/"+v.Template.Init); a.code != 200 {
		t.Errorf("init %s: %d", v.Template.Init, a.code)
	}
	if a := get(t, o1.url+"/live/one/"+strings.Replace(v.Template.Media, "$Number$", "6", 1)); a.code != 200 {
		t.Errorf("segment: %d", a.code)
	}

	// The publisher leaves in the middle of a segment, and comes back.
	if err := p.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	p2 := &media.Publisher{Clip: clip, Key: key, Epoch: 2, DSeq: 1, FirstMSN: p.NextMSN(), Start: time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC), Discontinuity: true}
	if err := p2.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p2, b.JS, 15)
	for _, o := range []*testOrigin{o1, o2} {
		wait(o, "_HLS_msn=9&_HLS_part=4")
		get(t, o.url+audioPath+"playlist.m3u8?_HLS_msn=9&_HLS_part=0")
	}
	m, one := getMPD(t, o1)
	if len(m.Periods) != 2 {
		t.Fatalf("%s", one)
	}
	first, second := m.Periods[0], m.Periods[1]
	// 2026-01-02T03:04:05Z is Unix time 1767323045.
	if first.Start != "PT1767323045S" || first.Duration != "PT5S" || first.Sets[0].Representations[0].Template.EndNumber != 7 ||
		second.ID != "e2.0" || second.Start != "PT1767323070S" || second.Duration != "" || second.Sets[0].Representations[0].Template.StartNumber != 8 {
		t.Errorf("%s", one)
	}
	if _, two := getMPD(t, o2); !bytes.Equal(one, two) {
		t.Errorf("the origins differ:\n%s\n%s", one, two)
	}
	a := get(t, o1.url+"/live/one/clock")
	if at, err := time.Parse(time.RFC3339Nano, string(a.body)); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("clock %q: %v", a.body, err)
	}
}

// Without a line that says how long segments are, those that are complete are listed.
func TestMPDWithTimeline(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	p.Irregular = true
	push(t, p, b.JS, 25)
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=7&_HLS_part=4")
	m, text := getMPD(t, o)
	tpl := m.Periods[0].Sets[0].Representations[0].Template
	if tpl.StartNumber != 5 || len(tpl.Timeline) != 2 || tpl.Offset != "" || tpl.Duration != 0 {
		t.Errorf("%s", text)
	}
}

// A segment that is being made is sent part by part; one that is about to begin is waited for.
func TestSegmentInProgress(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 10)
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=5&_HLS_part=9")
	type answer struct {
		res *http.Response
		err error
	}
	got := make(chan answer, 1)
	go func() {
		res, err := http.Get(o.url + videoPath + "1-6.m4s")
		got <- answer{res, err}
	}()
	push(t, p, b.JS, 1)
	a := <-got
	if a.err != nil || a.res.StatusCode != 200 || a.res.ContentLength != -1 {
		t.Fatalf("%+v", a)
	}
	defer a.res.Body.Close()
	var body []byte
	for i := range 10 {
		want := get(t, o.url+videoPath+(&schemas.Part{Epoch: 1, MSN: 6, Part: uint32(i)}).FileName()).body
		part := make([]byte, len(want))
		if _, err := io.ReadFull(a.res.Body, part); err != nil || !bytes.Equal(part, want) {
			t.Fatalf("part %d: %v", i, err)
		}
		body = append(body, part...)
		if i < 9 {
			push(t, p, b.JS, 1) // only now: each part was sent before the next was there
		}
	}
	if rest, err := io.ReadAll(a.res.Body); err != nil || len(rest) > 0 {
		t.Fatalf("%d bytes more, %v", len(rest), err)
	}
	if whole := get(t, o.url+videoPath+"1-6.m4s"); !bytes.Equal(whole.body, body) {
		t.Error("the whole segment is another one")
	}
}
