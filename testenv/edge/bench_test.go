package edge_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/edge"
)

// BenchmarkHits measures cached parts of 40 kB over real connections, client included.
func BenchmarkHits(b *testing.B) {
	body := bytes.Repeat([]byte("m"), 40_000)
	o := server(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(body)
	})
	e := start(b, edge.Settings{Origins: []string{o.URL}})
	u := e.URL() + "/t/" + sign(b, token.Session{SessionID: "s1", App: "live", Stream: "x"}) + "/live/x/src/video/1-0.0.m4s"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Get(u)
			if err != nil {
				b.Error(err)
				return
			}
			n, err := io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if err != nil || n != int64(len(body)) {
				b.Errorf("%d bytes, %v", n, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	if s := e.Stats(); s.OriginRequests != 1 {
		b.Errorf("%d origin requests", s.OriginRequests)
	}
}
