package publishprobe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/rtmp"
	"github.com/spillway-live/spillway/ingest/srt"
	"github.com/spillway-live/spillway/ingest/whip"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/publishprobe"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/router"
)

var stream = schemas.StreamKey{App: "live", Stream: "new"}

// freeUDP is an address at which nobody listens.
func freeUDP(t *testing.T) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// row finds what was measured of a way.
func row(t *testing.T, m *publishprobe.Measured, cdn, transport string) publishprobe.Row {
	t.Helper()
	i := slices.IndexFunc(m.Rows, func(r publishprobe.Row) bool { return r.CDN == cdn && r.Transport == transport })
	if i < 0 {
		t.Fatalf("%s by %s is not measured: %+v", cdn, transport, m.Rows)
	}
	return m.Rows[i]
}

// TestRealIngest: SRT, WHIP and RTMP ingest answer the probes. Where nobody answers
// over UDP, RTMP is chosen; the next publisher's answer knows.
func TestRealIngest(t *testing.T) {
	b := bustest.Start(t)
	signer, err := token.NewSigner([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := publish.New(t.Context(), publish.Settings{JetStream: b.JS, Auth: publish.Auth{Keys: signer}})
	if err != nil {
		t.Fatal(err)
	}
	overSRT, err := srt.New(srt.Settings{Listen: "127.0.0.1:0", Publish: p, Passphrase: "a passphrase that is not told"})
	if err != nil {
		t.Fatal(err)
	}
	overRTMP, err := rtmp.New(rtmp.Settings{Listen: "127.0.0.1:0", Publish: p})
	if err != nil {
		t.Fatal(err)
	}
	overWHIP, err := whip.New(whip.Settings{Listen: "127.0.0.1:0", UDP: "127.0.0.1:0", Publish: p})
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, p.Run, overSRT.Run, overRTMP.Run, overWHIP.Run).Ready(overSRT.Ready()).Ready(overRTMP.Ready()).Ready(overWHIP.Ready())
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	cdn := schemas.NewCDN("a")
	cdn.BaseURL = "http://a.example"
	data, err := json.Marshal(cdn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "a", data); err != nil {
		t.Fatal(err)
	}
	start := func(srtAt, whipMedia string) *router.Router {
		r, err := router.New(router.Settings{
			JS: b.JS, Signer: signer, ViewerSalt: []byte("salt of 16 bytes"), PublishSTUN: whipMedia,
			PublishURL: "srt://" + srtAt + "?streamid=#!::r={app}/{stream} " + overWHIP.URL() + "{app}/{stream} rtmp://" + overRTMP.Addr().String() + "/{app}/{stream}",
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Start(t, r.Run).Ready(r.Ready())
		return r
	}
	var prober publishprobe.Prober

	// A machine that is busy may let an answer wait for longer than a probe does: it is tried again then.
	t.Run("all answer", func(t *testing.T) {
		r := start(overSRT.Addr().String(), overWHIP.MediaAddr())
		within(t, "all transports answer", func() error {
			m, err := prober.Run(t.Context(), r.URL(), stream, 5, true)
			if err != nil {
				return err
			}
			for _, transport := range []string{"srt", "whip", "rtmp"} {
				if x := row(t, m, "a", transport); x.Error != "" || x.RTTMs <= 0 || x.TotalMs < x.RTTMs {
					return fmt.Errorf("%+v", x)
				}
			}
			if m.Transport != "srt" || !strings.HasPrefix(m.URL, "srt://"+overSRT.Addr().String()) {
				t.Fatalf("chosen: %s, %s", m.Transport, m.URL)
			}
			return nil
		})
		if d, err := publishprobe.Ask(t.Context(), r.URL(), stream); err != nil || d.Candidates[0].Transports[0].Measured != nil {
			t.Errorf("the router knows what it was not told: %+v, %v", d, err)
		}
	})
	t.Run("whip without its media's address", func(t *testing.T) {
		r := start(overSRT.Addr().String(), "")
		within(t, "the endpoint answers", func() error {
			m, err := prober.Run(t.Context(), r.URL(), stream, 5, true)
			if err != nil {
				return err
			}
			if got := m.Answer.Candidates[0].Transports[1].Probe.Method; got != schemas.ProbeHTTPOptions {
				t.Fatalf("measured by %s", got)
			}
			if x := row(t, m, "a", "whip"); x.Error != "" {
				return errors.New(x.Error)
			}
			return nil
		})
	})
	t.Run("UDP is blocked", func(t *testing.T) {
		r := start(freeUDP(t), freeUDP(t))
		within(t, "RTMP is chosen, and the next publisher is told so", func() error {
			m, err := prober.Run(t.Context(), r.URL(), stream, 5, false)
			if err != nil {
				return err
			}
			if x := row(t, m, "a", "srt"); x.Error == "" || x.RTTMs != 0 {
				t.Fatalf("%+v", x)
			}
			if m.Transport != "rtmp" || m.Answer.Candidates[0].URL != m.URL {
				return fmt.Errorf("chosen: %s %s, answered %+v", m.Transport, m.URL, m.Answer.Candidates)
			}
			next, err := publishprobe.Ask(t.Context(), r.URL(), schemas.StreamKey{App: "live", Stream: "next"})
			if err != nil {
				return err
			}
			first, last := next.Candidates[0].Transports[0], next.Candidates[0].Transports[2]
			if first.Name != "rtmp" || first.Measured == nil || first.Measured.RTTMs <= 0 || last.Measured == nil || last.Measured.FailedShare != 1 {
				return fmt.Errorf("the next publisher is told %+v, %+v", first, last)
			}
			return nil
		})
	})
}

// within tries until f gives no error.
func within(t *testing.T, what string, f func() error) {
	t.Helper()
	await.Text(t, what, func() string {
		if err := f(); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestOnlyTheMeasuredIsChosen: the answer to a report has candidates that were not measured;
// where those that were all failed, nothing is chosen.
func TestOnlyTheMeasuredIsChosen(t *testing.T) {
	way := func(name, url string, probe *schemas.TransportProbe) []schemas.DispatchTransport {
		return []schemas.DispatchTransport{{Name: name, URL: url, Probe: probe}}
	}
	fails := &schemas.TransportProbe{Method: "smoke", Address: "a"}
	var d schemas.Dispatch
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(&d); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(web.Close)
	d = schemas.Dispatch{Probes: web.URL, Candidates: []schemas.DispatchCandidate{
		{CDN: "a", Transports: way("rtmp", "rtmp://a", fails)}, {CDN: "b", Transports: way("rtmp", "rtmp://b", fails)},
	}}
	for _, quiet := range []bool{false, true} {
		m, err := (&publishprobe.Prober{}).Run(t.Context(), web.URL, stream, 1, quiet)
		if err != nil || m.URL != "" || m.CDN != "" || len(m.Rows) != 1 {
			t.Errorf("chosen: %+v, %v", m, err)
		}
	}
	d.Candidates[0].Transports = append(d.Candidates[0].Transports, way("other", "other://a", nil)...)
	if m, err := (&publishprobe.Prober{}).Run(t.Context(), web.URL, stream, 1, false); err != nil || m.URL != "other://a" {
		t.Errorf("a way without a probe is not taken: %+v, %v", m, err)
	}
}

// TestWrongAnswers: what answers, but not as it should, does not count as reached.
func TestWrongAnswers(t *testing.T) {
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := &http.Server{Handler: http.NotFoundHandler()}
	running.Start(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { echo.Close() })()
		b := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return nil
			}
			_, _ = echo.WriteTo(b[:n], from)
		}
	}, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { gone.Close() })()
		_ = gone.Serve(web)
		return nil
	})
	at := web.Addr().String()
	for _, x := range []struct {
		method, address, says string
		timeoutMs             int
	}{
		// These wait for their whole limit; the others end by an answer, however late it is.
		{schemas.ProbeSRT, echo.LocalAddr().String(), "no answer within", 300}, {schemas.ProbeSTUN, echo.LocalAddr().String(), "no answer within", 300},
		{schemas.ProbeSRT, silent.LocalAddr().String(), "no answer within", 300},
		{schemas.ProbeRTMP, at, "", 10_000}, {schemas.ProbeRTMPS, at, "", 10_000}, {schemas.ProbeHTTPOptions, "http://" + at + "/whip/live/new", "404", 10_000},
		{schemas.ProbeRTMP, "127.0.0.1", "missing port", 10_000}, {"smoke", at, "not known", 10_000},
	} {
		_, _, err := (&publishprobe.Prober{}).Measure(t.Context(), &schemas.TransportProbe{Method: x.method, Address: x.address, TimeoutMs: x.timeoutMs})
		if err == nil || !strings.Contains(err.Error(), x.says) || !strings.Contains(err.Error(), x.address) {
			t.Errorf("%s of %s: %v", x.method, x.address, err)
		}
	}
}
