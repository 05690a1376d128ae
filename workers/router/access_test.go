package router_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/schemas/token/scheme"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

var door = schemas.StreamKey{App: "home", Stream: "door"}

func playKey(t *testing.T, c token.Play) string {
	t.Helper()
	if c.ExpiresUnix == 0 {
		c.ExpiresUnix = time.Now().Add(time.Hour).Unix()
	}
	k, err := newSigner(t).SignPlay(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func claims(t *testing.T, tok string) token.Session {
	t.Helper()
	c, err := newSigner(t).ParseSession(tok, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func dispatched(t *testing.T, a answer) (d schemas.Dispatch) {
	t.Helper()
	if a.status != 200 {
		t.Fatalf("dispatch: %d %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPrivateStreamNeedsAPlayKey(t *testing.T) {
	t.Parallel()
	b := world(t)
	put(t, b.JS, schemas.BucketStreams, door.KVKey(), state(door, "a"))
	put(t, b.JS, schemas.BucketApps, door.App, schemas.AppSettings{Private: true})
	r := start(t, b.JS)
	edge := []string{"X-Spillway-Edge-Key", edgeKey, "X-Spillway-CDN", "a"}
	good := playKey(t, token.Play{App: "home", Stream: "door", ViewerID: "hash-of-ann"})
	for _, c := range []struct{ key, want string }{
		{"", "show a play key"},
		{"nonsense", "malformed"},
		{playKey(t, token.Play{App: "home", Stream: "garden"}), "home/garden"},
		{playKey(t, token.Play{App: "home", Stream: "door", ExpiresUnix: time.Now().Unix() - 5}), "expired"},
	} {
		for _, path := range []string{"/v1/dispatch?app=home&stream=door&key=", "/v1/play/home/door/multivariant.m3u8?key=", "/home/door/multivariant.m3u8?key="} {
			if a := r.get(t, path+url.QueryEscape(c.key), edge...); a.status != 403 || !strings.Contains(a.body, c.want) {
				t.Errorf("%s with key %.20q: %d %s", path, c.key, a.status, a.body)
			}
		}
	}
	d := dispatched(t, r.get(t, "/v1/dispatch?app=home&stream=door&viewer=bob", "Authorization", "Bearer "+good))
	if c := claims(t, d.Token); !c.Keyed || c.ViewerID != "hash-of-ann" || time.Until(time.Unix(c.ExpiresUnix, 0)) < 11*time.Hour {
		t.Errorf("claims %+v: a view outlasts the key it began with", c)
	}
	if a := r.get(t, d.URL); a.status != 200 {
		t.Errorf("multivariant of the session: %d %s", a.status, a.body)
	}
	if a := r.get(t, "/v1/steering?s="+d.Token); a.status != 200 {
		t.Errorf("steering of the session: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/v1/play/home/door/multivariant.m3u8?key=" + good, "/home/door/multivariant.m3u8?key=" + playKey(t, token.Play{App: "home"})} {
		if a := r.get(t, path, edge...); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	ends := time.Now().Add(time.Minute).Unix()
	d = dispatched(t, r.get(t, "/v1/dispatch?app=home&stream=door&key="+playKey(t, token.Play{App: "home", EndsViews: true, ExpiresUnix: ends})))
	if c := claims(t, d.Token); c.ExpiresUnix != ends {
		t.Errorf("a key that ends views: session until %d, want %d", c.ExpiresUnix, ends)
	}
	// A neighbour that is private is left out for those without its key.
	if d := dispatched(t, r.get(t, "/v1/dispatch?app=live&stream=demo&neighbours=demo")); claims(t, d.Token).Keyed {
		t.Error("a session of a public stream counts as keyed")
	}
	// A stream that becomes private shuts out sessions that were opened without a key.
	open := dispatched(t, r.get(t, "/v1/dispatch?app=live&stream=demo"))
	put(t, b.JS, schemas.BucketApps, "live.demo", schemas.AppSettings{Private: true})
	await.True(t, "the session ends", func() bool { return r.get(t, "/v1/steering?s="+open.Token).status == 403 })
	if a := r.get(t, open.URL); a.status != 403 || !strings.Contains(a.body, "private now") {
		t.Errorf("multivariant of a session without key: %d %s", a.status, a.body)
	}
}

func TestSharePlaysUnderItsOwnName(t *testing.T) {
	t.Parallel()
	b := world(t)
	put(t, b.JS, schemas.BucketStreams, door.KVKey(), state(door, "b"))
	put(t, b.JS, schemas.BucketApps, door.App, schemas.AppSettings{Private: true})
	until := time.Now().Add(time.Hour).Unix()
	share := schemas.Share{App: door.App, Stream: door.Stream, UntilUnix: until}
	put(t, b.JS, schemas.BucketShares, "home.link", share)
	r := start(t, b.JS)
	d := dispatched(t, r.get(t, "/v1/dispatch?app=home&stream=link"))
	c := claims(t, d.Token)
	if d.ContentID != "home/link" || c.Stream != "link" || c.Keyed || c.ExpiresUnix != until || d.Candidates[0].CDN != "b" {
		t.Errorf("dispatch %+v, claims %+v", d, c)
	}
	a := r.get(t, d.URL)
	if a.status != 200 || !strings.Contains(a.body, "/home/link/src/video/") || strings.Contains(a.body, "door") || !strings.Contains(a.body, "avc1") {
		t.Errorf("multivariant %d:\n%s", a.status, a.body)
	}
	share.WithdrawnUnix = time.Now().Unix()
	put(t, b.JS, schemas.BucketShares, "home.link", share)
	await.True(t, "the share ends", func() bool { return r.get(t, "/v1/dispatch?app=home&stream=link").status == 410 })
	for _, path := range []string{d.URL, "/v1/steering?s=" + d.Token} {
		if a := r.get(t, path); a.status != 410 || !strings.Contains(a.body, "withdrawn") {
			t.Errorf("%.40s after the withdrawal: %d %s", path, a.status, a.body)
		}
	}
	if a := r.get(t, "/v1/dispatch?app=home&stream=door&key="+playKey(t, token.Play{App: "home"})); a.status != 200 {
		t.Errorf("the private address after the withdrawal: %d %s", a.status, a.body)
	}
}

func TestCDNsSignInTheirOwnWay(t *testing.T) {
	t.Parallel()
	b := world(t)
	a := cdn("a", 0, 0)
	a.TokenScheme, a.TokenKey = "nginx-path", "a-key"
	put(t, b.JS, schemas.BucketCDNs, "a", a)
	c := cdn("c", 2, 0)
	c.TokenScheme, c.TokenKey = "akamai-path", "lost-key"
	put(t, b.JS, schemas.BucketCDNs, "c", c)
	cdnKey := []byte("a key that is long enough")
	r := start(t, b.JS, func(s *router.Settings) { s.CDNKeys = map[string][]byte{"a-key": cdnKey} })
	d := dispatched(t, r.get(t, "/v1/dispatch?app=live&stream=demo"))
	by := map[string]string{}
	for _, x := range d.Candidates {
		by[x.CDN] = x.URL
	}
	if len(by) != 2 || by["b"] != "http://b.example/t/"+d.Token+"/live/demo/multivariant.m3u8" {
		t.Errorf("candidates %v: b signs as ever, c's key is missing", by)
	}
	verify := func(address string) {
		t.Helper()
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		g, path, err := scheme.NginxPath{}.Verify(u, cdnKey, time.Now())
		if err != nil || g.Dir != "/live/demo/" || !strings.HasPrefix(path, "/live/demo/") || g.ExpiresUnix != claims(t, d.Token).ExpiresUnix {
			t.Errorf("%s: %+v, %v", address, g, err)
		}
	}
	verify(by["a"])
	if !strings.HasSuffix(by["a"], "?s="+d.Token) {
		t.Errorf("a's address does not say whose session it is: %s", by["a"])
	}
	n := 0
	for _, line := range strings.Split(r.get(t, d.URL).body, "\n") {
		if strings.HasPrefix(line, "http://a.example/s/") {
			verify(line)
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d variants at a", n)
	}
}

func TestPlayRequestWakesTheCamera(t *testing.T) {
	t.Parallel()
	b := world(t)
	put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: "rtsp://camera/1", OnDemand: true})
	put(t, b.JS, schemas.BucketApps, door.App, schemas.AppSettings{Private: true})
	asked := make(chan schemas.StreamKey, 16)
	w := demand.Listen(b.Conn, func(k schemas.StreamKey) { asked <- k })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := b.Conn.Flush(); err != nil {
		t.Fatal(err)
	}
	r := start(t, b.JS, func(s *router.Settings) { s.WakeLimit = 2 * time.Second })
	path := "/v1/dispatch?app=home&stream=door"
	if a := r.get(t, path); a.status != 403 {
		t.Errorf("without a key: %d %s", a.status, a.body)
	}
	key := playKey(t, token.Play{App: "home"})
	if a := r.get(t, path+"&key="+key); a.status != 504 || !strings.Contains(a.body, "no puller") {
		t.Errorf("with nobody to pull it: %d %s", a.status, a.body)
	}
	if k := <-asked; k != door {
		t.Fatalf("asked for %s", k)
	}
	if len(asked) != 0 {
		t.Errorf("the camera was asked for by those who may not see it: %v", <-asked)
	}
	put(t, b.JS, schemas.BucketPulls, door.KVKey(), schemas.PullState{
		App: door.App, Stream: door.Stream, Holder: "p", UpdatedUnixUs: time.Now().UnixMicro(), Error: "401 Unauthorized",
	})
	if a := r.get(t, path+"&key="+key); a.status != 504 || !strings.Contains(a.body, "did not answer") || !strings.Contains(a.body, "401 Unauthorized") {
		t.Errorf("with a camera that refuses: %d %s", a.status, a.body)
	}
	got := make(chan answer, 1)
	go func() { got <- r.get(t, path+"&key="+key) }()
	put(t, b.JS, schemas.BucketStreams, door.KVKey(), state(door, "a"))
	if a := <-got; a.status != 200 {
		t.Errorf("once it is live: %d %s", a.status, a.body)
	}
	// A camera whose last picture is old is woken again, not played from the past.
	old := state(door, "a")
	old.Live, old.UpdatedUnixUs = false, time.Now().Add(-20*time.Second).UnixMicro()
	put(t, b.JS, schemas.BucketStreams, door.KVKey(), old)
	await.True(t, "the stream counts as asleep", func() bool { return r.get(t, path+"&key="+key).status == 504 })
}
