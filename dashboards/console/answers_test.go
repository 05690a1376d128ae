package console

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/router"
)

// TestChangesAreInEveryAnswer: what is set over HTTP is in the answers of all routers.
func TestChangesAreInEveryAnswer(t *testing.T) {
	b := bustest.Start(t)
	signer, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	var routers []*router.Router
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for range 2 {
		r, err := router.New(router.Settings{JS: b.JS, Signer: signer, ViewerSalt: make([]byte, 16)})
		if err != nil {
			t.Fatal(err)
		}
		routers = append(routers, r)
		go func() { done <- r.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range routers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	put(t, bucket(t, b.JS, schemas.BucketStreams), demo.KVKey(), schemas.StreamState{
		App: demo.App, Stream: demo.Stream, Live: true, UpdatedUnixUs: time.Now().UnixMicro(),
		Epoch: schemas.EpochOpen{Epoch: 1, Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001f"}}},
	})
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	change := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, c.URL()+"/v1/settings/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer sesame")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
	}
	answers := func(what, want string) {
		t.Helper()
		for _, r := range routers {
			<-r.Ready()
			await.Text(t, what, func() string {
				code, _, body := get(t, r.URL()+"/v1/dispatch?app="+demo.App+"&stream="+demo.Stream)
				var d schemas.Dispatch
				if err := json.Unmarshal(body, &d); err != nil || code != 200 && want != "" {
					return string(body)
				}
				var got []string
				for _, x := range d.Candidates {
					got = append(got, x.CDN)
				}
				if s := strings.Join(got, " "); s != want {
					return "candidates " + s
				}
				return ""
			})
		}
	}
	change("PATCH", "cdns/a", `{"base_url":"http://a.example"}`)
	change("PATCH", "cdns/b", `{"base_url":"http://b.example","order":1}`)
	answers("two CDNs", "a b")
	change("PATCH", "cdns/a", `{"state":"draining"}`)
	answers("a drains", "b")
	change("PATCH", "cdns/a", `{"state":"active"}`)
	change("PUT", "policies/affinity", `{"name":"affinity","kind":"expression","score":"order"}`)
	answers("another policy under the built-in one's name", "b a")
	change("PATCH", "policies/affinity", `{"score":"-order"}`)
	answers("its next version", "a b")
	change("DELETE", "cdns/b", ``)
	answers("b is gone", "a")
}
