package console

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestPictures(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	base := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	var seqs []uint64
	for i := range 5 {
		seqs = append(seqs, publishPicture(t, b.JS, demo, base.Add(time.Duration(i)*time.Minute), testJPEG(t, i)))
	}
	other := publishPicture(t, b.JS, schemas.StreamKey{App: "live", Stream: "other"}, base, testJPEG(t, 9))
	put(t, bucket(t, b.JS, schemas.BucketStreams), demo.KVKey(), stateOf(demo, time.Now()))

	code, h, body := get(t, c.URL()+"/live/demo/picture.jpg")
	if code != 200 || !bytes.Equal(body, testJPEG(t, 4)) || h.Get("Content-Type") != "image/jpeg" || h.Get("Cache-Control") != "max-age=2" ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Spillway-Picture-Time-Ms") != strconv.FormatInt(base.Add(4*time.Minute).UnixMilli(), 10) {
		t.Errorf("latest: %d, %d bytes, %v", code, len(body), h)
	}
	if code, _, body = get(t, c.URL()+"/live/demo/picture.jpg", "If-None-Match", h.Get("ETag")); code != 304 || len(body) != 0 {
		t.Errorf("unchanged: %d, %d bytes", code, len(body))
	}
	publishPicture(t, b.JS, demo, base.Add(6*time.Minute), testJPEG(t, 6))
	await.Text(t, "the newer picture", func() string {
		if _, _, body := get(t, c.URL()+"/live/demo/picture.jpg"); !bytes.Equal(body, testJPEG(t, 6)) {
			return "still an older one"
		}
		return ""
	})

	var list historyAnswer
	q := fmt.Sprintf("?from=%d&to=%s", base.Add(time.Minute).UnixMilli(), base.Add(3*time.Minute).UTC().Format(time.RFC3339))
	getJSON(t, c.URL()+"/v1/pictures/live/demo"+q, &list)
	if len(list.Pictures) != 3 || list.Pictures[0].Seq != seqs[1] || list.Pictures[2].Seq != seqs[3] || list.Pictures[0].Width != 320 {
		t.Fatalf("history %+v", list)
	}
	code, h, body = get(t, c.URL()+list.Pictures[1].URL)
	if code != 200 || !bytes.Equal(body, testJPEG(t, 2)) || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("one picture: %d, %d bytes, %v", code, len(body), h)
	}
	getJSON(t, c.URL()+"/v1/pictures/live/nobody", &list)
	if len(list.Pictures) != 0 {
		t.Errorf("history of nobody: %+v", list)
	}
	// Consumers of histories do not pile up.
	st, err := b.JS.Stream(t.Context(), schemas.StreamPictures)
	if err != nil {
		t.Fatal(err)
	}
	await.Text(t, "one consumer, the console's own", func() string {
		if i, err := st.Info(t.Context()); err != nil || i.State.Consumers > 1 {
			return fmt.Sprint(i.State.Consumers, err)
		}
		return ""
	})
	for url, want := range map[string]int{
		"/live/nobody/picture.jpg":                            404,
		"/live/a.b/picture.jpg":                               400,
		"/live/%2e%2e/picture.jpg":                            400,
		"/live/demo%2a/picture.jpg":                           400,
		"/v1/pictures/live/demo?from=yesterday":               400,
		"/v1/pictures/live/de%3Emo":                           400,
		"/v1/pictures/live/demo/x.jpg":                        400,
		"/v1/pictures/live/demo/1":                            400,
		"/v1/pictures/live/demo/999999.jpg":                   404,
		fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", other):   404,
		fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", seqs[0]): 200,
	} {
		if code, _, body := get(t, c.URL()+url); code != want {
			t.Errorf("%s: %d %.100s, want %d", url, code, body, want)
		}
	}
	// What is not a JPEG is not served, whatever its header says.
	publishPicture(t, b.JS, demo, time.Now(), []byte("<script>alert(1)</script>"))
	await.Text(t, "the impostor refused", func() string {
		code, h, _ := get(t, c.URL()+"/live/demo/picture.jpg")
		if code != 503 || h.Get("Content-Type") != "application/json" {
			return fmt.Sprint(code, h)
		}
		return ""
	})
}

// TestPicturesOfPastStreamsAreForgotten: not those of live ones, nor a young one whose stream was not heard of yet.
func TestPicturesOfPastStreamsAreForgotten(t *testing.T) {
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere})
	kv := bucket(t, b.JS, schemas.BucketStreams)
	now := time.Now()
	yesterday := now.Add(-25 * time.Hour)
	key := func(name string) schemas.StreamKey { return schemas.StreamKey{App: "live", Stream: name} }
	for name, at := range map[string]time.Time{"live": now, "past": yesterday} {
		put(t, kv, key(name).KVKey(), stateOf(key(name), at))
	}
	await.True(t, "both states are known", func() bool {
		_, live := c.st.streams.Get("live.live")
		_, past := c.st.streams.Get("live.past")
		return live && past
	})
	c.apply(func() {
		for name, at := range map[string]time.Time{"live": yesterday, "past": yesterday, "gone": yesterday, "new": now} {
			c.st.pictures[key(name)] = pictureRef{Seq: 1, TimeMs: at.UnixMilli()}
		}
		c.st.forget(now)
		if _, live := c.st.pictures[key("live")]; !live || len(c.st.pictures) != 2 || c.st.pictures[key("new")].Seq == 0 {
			t.Errorf("left are %v", c.st.pictures)
		}
	})
}

// TestPicturesOfPrivateStreams: they are shown to who has the admin token, and to nobody else.
func TestPicturesOfPrivateStreams(t *testing.T) {
	b := bustest.Start(t)
	put(t, bucket(t, b.JS, schemas.BucketApps), demo.KVKey(), schemas.AppSettings{Private: true})
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	at := time.Now().Add(-time.Minute)
	open := schemas.StreamKey{App: "live", Stream: "open"}
	seq := publishPicture(t, b.JS, demo, at, testJPEG(t, 1))
	publishPicture(t, b.JS, open, at, testJPEG(t, 2))
	for _, path := range []string{"/live/demo/picture.jpg", "/v1/pictures/live/demo", fmt.Sprintf("/v1/pictures/live/demo/%d.jpg", seq)} {
		if code, _, body := get(t, c.URL()+path); code != 401 || bytes.Contains(body, []byte{0xff, 0xd8}) {
			t.Errorf("%s without the token: %d", path, code)
		}
		if code, _, _ := get(t, c.URL()+path, "Authorization", "Bearer sesame"); code != 200 {
			t.Errorf("%s with the token: %d", path, code)
		}
	}
	if code, _, _ := get(t, c.URL()+"/live/open/picture.jpg"); code != 200 {
		t.Errorf("a public stream's picture: %d", code)
	}
	private := fmt.Sprintf("%s/v1/pictures/live/demo/%d.jpg", c.URL(), seq)
	// Pages have a cookie, which opens pictures only.
	ask := func(method, token string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, c.URL()+"/v1/picture-access", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if r := ask("PUT", "guess"); r.StatusCode != 401 || len(r.Cookies()) != 0 {
		t.Errorf("a wrong token: %d, cookies %v", r.StatusCode, r.Cookies())
	}
	r := ask("PUT", "sesame")
	if len(r.Cookies()) != 1 || !r.Cookies()[0].HttpOnly || r.Cookies()[0].SameSite != http.SameSiteStrictMode || strings.Contains(r.Cookies()[0].Value, "sesame") {
		t.Fatalf("the token: %d, cookies %v", r.StatusCode, r.Cookies())
	}
	cookie := r.Cookies()[0].Name + "=" + r.Cookies()[0].Value
	if code, h, _ := get(t, private, "Cookie", cookie); code != 200 || h.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("with the cookie: %d, %q", code, h.Get("Cache-Control"))
	}
	if code, _, _ := get(t, private, "Cookie", r.Cookies()[0].Name+"=guess"); code != 401 {
		t.Errorf("with another cookie: %d", code)
	}
	if code, _, _ := get(t, c.URL()+"/v1/settings/apps", "Cookie", cookie); code != 401 {
		t.Errorf("settings with the cookie: %d", code)
	}
	if r := ask("DELETE", ""); len(r.Cookies()) != 1 || r.Cookies()[0].MaxAge >= 0 {
		t.Errorf("forgetting: %v", r.Cookies())
	}
}
