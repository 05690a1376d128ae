package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"

	"github.com/spillway-live/spillway/testenv/publisher"
)

// TestBadInput: publishers and telemetry that must be refused are refused with
// a reason that log, event and metric repeat; good ones beside them go on.
func TestBadInput(t *testing.T) {
	t.Parallel()
	env, dir := environment(t), t.TempDir()
	u := up(t, env, dir, "--no-demo", "--open-publish=false")
	code, key, stderr := command(t, env, nil, "key", "live/good")
	if code != 0 {
		t.Fatalf("spillway key: %s", stderr)
	}
	good := &publisher.Replay{File: smallClip(t), URLs: []string{u.Push + "/good?cdn=a&key=" + strings.TrimSpace(key)}, Logger: quiet()}
	background(t, "good publisher", good.Run)
	multivariant := strings.Replace(u.HLS["a"], "/live/demo/", "/live/good/", 1)
	within(t, time.Minute, "the good publisher can be watched", func() error {
		code, _, err := httpGet(multivariant)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%s: %d", multivariant, code)
		}
		return err
	})
	f := &follower{multivariant: multivariant}
	end := follow(t, f)
	msn := newestSegment(t, multivariant)
	first := msn()

	t.Run("publishers", func(t *testing.T) { badPublishers(t, u, strings.TrimSpace(key)) })
	t.Run("telemetry", func(t *testing.T) { badTelemetry(t, u) })
	t.Run("commands", func(t *testing.T) { badCommands(t, u) })

	// However fast the refusals were, the good publisher is watched for five segments, at least 50 parts.
	within(t, time.Minute, "the good publisher goes on", func() error {
		if now := msn(); now < first+5 {
			return fmt.Errorf("segment %d, at first %d", now, first)
		}
		return nil
	})
	end()
	if f.parts < 40 || f.epochs != 1 {
		t.Errorf("the good publisher was disturbed: %d parts in %d epochs", f.parts, f.epochs)
	}
	u.interrupt()
}

func badPublishers(t *testing.T, u *upProgram, key string) {
	target, err := url.Parse(u.Push)
	if err != nil {
		t.Fatal(err)
	}
	garbage := func(t *testing.T, data []byte) {
		t.Helper()
		c, err := net.Dial("tcp", target.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(data); err != nil {
			return // refused while we talk: as good
		}
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("garbage is listened to for 30 s")
		}
	}
	roots := x509.NewCertPool()
	if cert, err := os.ReadFile(u.PushRTMPSCert); err != nil || !roots.AppendCertsFromPEM(cert) {
		t.Fatalf("the certificate of %s: %v", u.PushRTMPS, err)
	}
	publishTo := func(t *testing.T, at string, tracks ...*gortmplib.Track) {
		t.Helper()
		to, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c := &gortmplib.Client{URL: to, Publish: true, TLSConfig: &tls.Config{RootCAs: roots, ServerName: to.Hostname()}}
		if err := c.Initialize(ctx); err != nil {
			return // refused at once
		}
		defer c.Close()
		w := &gortmplib.Writer{Conn: c, Tracks: tracks}
		if err := w.Initialize(); err != nil {
			return
		}
		_ = c.NetConn().SetDeadline(time.Now().Add(20 * time.Second))
		for { // until the server closes
			if _, err := c.Read(); err != nil {
				return
			}
		}
	}
	publish := func(t *testing.T, stream string, tracks ...*gortmplib.Track) {
		t.Helper()
		publishTo(t, u.Push+"/"+stream, tracks...)
	}
	random := make([]byte, 64<<10)
	rand.Read(random)
	random[0] = 0x55 // RTMP begins with 3
	h264 := &gortmplib.Track{Codec: &codecs.H264{}}
	for _, c := range []struct {
		name   string
		do     func(t *testing.T)
		stream string // of the event
		reason string // part of it
	}{
		{"garbage", func(t *testing.T) { garbage(t, random) }, "", "rtmp version (85)"},
		{"HTTP", func(t *testing.T) { garbage(t, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) }, "", "rtmp version (71)"},
		{"no key", func(t *testing.T) { publish(t, "nokey", h264) }, "nokey", "publish key is missing"},
		{"no key over TLS", func(t *testing.T) { publishTo(t, u.PushRTMPS+"/notls", h264) }, "notls", "publish key is missing"},
		{"wrong key", func(t *testing.T) { publish(t, "wrongkey?key=x"+key[1:], h264) }, "wrongkey", "publish key"},
		{"key of another stream", func(t *testing.T) { publish(t, "another?key="+key, h264) }, "another", "publish key"},
		{"VP9", func(t *testing.T) {
			// Enhanced RTMP; with a good key of its own.
			code, k, stderr := command(t, u.env, nil, "key", "live/vp9")
			if code != 0 {
				t.Fatal(stderr)
			}
			publish(t, "vp9?key="+strings.TrimSpace(k), &gortmplib.Track{Codec: &codecs.VP9{}})
		}, "vp9", "VP9 is not taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			c.do(t)
			type event struct {
				Stream, Reason string
				Detail         map[string]string
			}
			var e event
			within(t, time.Minute, "the refusal is an event", func() error {
				got, err := tryRows[event](u.ClickHouse, "SELECT stream, reason, detail FROM spillway.events WHERE kind = 'publish_refused' AND stream = '%s' AND time >= fromUnixTimestamp64Micro(%d) AND reason ILIKE '%%%s%%'",
					c.stream, began.UnixMicro(), c.reason)
				if err == nil && len(got) == 0 {
					err = fmt.Errorf("none")
				}
				if err == nil {
					e = got[0]
				}
				return err
			})
			t.Logf("%+v", e)
			if !strings.Contains(u.log.String(), e.Reason) && !strings.Contains(u.log.String(), strings.Trim(fmt.Sprintf("%q", e.Reason), `"`)) {
				t.Errorf("the log does not repeat the reason %q", e.Reason)
			}
			if e.Detail["peer"] != "127.0.0.1" || e.Detail["code"] == "" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func badTelemetry(t *testing.T, u *upProgram) {
	post := func(path, body string, header ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, strings.TrimSuffix(u.Collector, "/v1/cmcd")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	rejected := func(reason string) float64 {
		return metric(t, u.Metrics, `spillway_collect_rejected_records_total{reason="`+reason+`"}`)
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: answered %d, not %d", what, got, want)
		}
	}
	reasons := []string{"useless", "future_version", "oversize", "bad_json", "body_too_large", "body_encoding"}
	before := map[string]float64{}
	for _, r := range reasons {
		before[r] = rejected(r)
	}
	now := time.Now().UnixMilli()
	good := func(sn int) string {
		return fmt.Sprintf("cid=\"live/good\",e=ps,sid=\"e2e-mixed\",sn=%d,sta=p,ts=%d,v=2\n", sn, now+int64(sn))
	}
	expect("good ones among bad ones", post("/v1/cmcd", good(0)+"<html>nonsense</html>\n"+good(1)+"sid=\"e2e-mixed\",sn=9,v=3\n"+strings.Repeat("x", 40<<10)+"\n"+good(2),
		"Content-Type", "application/cmcd"), http.StatusNoContent)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(good(3) + good(4))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	expect("gzip", post("/v1/cmcd", packed.String(), "Content-Type", "text/cmcd", "Content-Encoding", "gzip"), http.StatusNoContent)
	expect("broken gzip", post("/v1/cmcd", "no gzip", "Content-Encoding", "gzip"), http.StatusUnsupportedMediaType)
	expect("a body over the limit", post("/v1/cmcd", strings.Repeat(good(9), 20_000)), http.StatusRequestEntityTooLarge)
	var bomb bytes.Buffer
	z = gzip.NewWriter(&bomb)
	if _, err := z.Write(bytes.Repeat([]byte("sid=\"e2e-mixed\",v=2\n"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	expect("a body over the limit once unpacked", post("/v1/cmcd", bomb.String(), "Content-Encoding", "gzip"), http.StatusRequestEntityTooLarge)
	if code := post("/v1/beacon", `{"kind":"progress","sid":"e2e-mixed"`); code >= 500 {
		t.Errorf("broken JSON: answered %d", code)
	}
	expect("a good beacon", post("/v1/beacon", fmt.Sprintf(`{"kind":"progress","sid":"e2e-mixed","sn":0,"ts":%d,"stalls":"many"}`, now)), http.StatusNoContent)

	for r, n := range map[string]float64{"useless": 1, "future_version": 1, "oversize": 1, "bad_json": 1, "body_too_large": 2, "body_encoding": 1} {
		if got := rejected(r) - before[r]; got != n {
			t.Errorf("rejected for %s: counted %v times, not %v", r, got, n)
		}
	}
	type row struct {
		Source string
		Seqs   []int
	}
	within(t, time.Minute, "the good records, and only they, are in ClickHouse", func() error {
		got, err := tryRows[row](u.ClickHouse, "SELECT source, arraySort(groupArray(toInt32(seq))) AS seqs FROM spillway.telemetry WHERE session_id = 'e2e-mixed' GROUP BY source ORDER BY source")
		if err == nil && fmt.Sprint(got) != "[{beacon [0]} {cmcd_event [0 1 2 3 4]}]" {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
}

// badCommands: what goes wrong on the command line is said in plain words with the remedy.
func badCommands(t *testing.T, u *upProgram) {
	file := func(text string) string {
		t.Helper()
		p := filepath.Join(t.TempDir(), "experiment.json")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	nobody := environment(t) // a user without a running system
	busy := strings.TrimPrefix(u.Console, "http://")
	lonely := make([]string, 0, len(nobody)+1)
	for _, v := range nobody {
		if !strings.HasPrefix(v, "PATH=") {
			lonely = append(lonely, v)
		}
	}
	lonely = append(lonely, "PATH="+t.TempDir())
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"unknown flag", u.env, []string{"up", "--colour"}, 2, []string{"-colour"}},
		{"unknown command", u.env, []string{"fly"}, 1, []string{`no subcommand "fly"`}},
		{"bad port", u.env, []string{"up", "--rtmp", "99999"}, 2, []string{"99999", "0 to 65535"}},
		{"unknown CDN", u.env, []string{"cdn", "fault", "z", "--down"}, 1, []string{"no CDN z", "a, b, c"}},
		{"fault without a kind", u.env, []string{"cdn", "fault", "a"}, 1, []string{"--rate", "heal"}},
		{"rate without a unit that is one", u.env, []string{"cdn", "fault", "a", "--rate", "3 apples"}, 1, []string{"3 apples", "300kbps"}},
		{"unknown experiment", u.env, []string{"experiment", "start", "nothing"}, 1, []string{`no experiment "nothing"`}},
		{"experiment file that is no JSON", u.env, []string{"experiment", "create", file("arms: 2")}, 1, []string{"read experiment", "experiment.json"}},
		{"experiment file with one arm", u.env, []string{"experiment", "create", file(`{"name":"x","unit":"viewer","coverage":1,"arms":[{"name":"a","weight":1}]}`)}, 1, []string{"arms", "2 to 16"}},
		{"experiment file with a field misspelt", u.env, []string{"experiment", "create", file(`{"name":"x","unit":"viewer","coverrage":1}`)}, 1, []string{"coverrage"}},
		{"no experiment file", u.env, []string{"experiment", "create", "missing.json"}, 1, []string{"missing.json"}},
		{"bad key", u.env, []string{"key", "live/../x"}, 1, []string{"stream name"}},
		{"nothing runs", nobody, []string{"cdn", "list"}, 1, []string{"no running", "--data", "--nats"}},
		{"second system on the same data", u.env, []string{"up", "--data", u.dir}, 1, []string{"in use by another spillway", fmt.Sprint(u.PID), "--data"}},
		{"console port in use", nobody, []string{"up", "--no-demo", "--only", "console", "--data", t.TempDir(), "--console", busy}, 1, []string{"console cannot listen on " + busy, "choose another"}},
		{"role's port in use", u.env, []string{"origin", "--data", u.dir, "--listen", busy}, 1, []string{"origin cannot listen on " + busy, "choose another"}},
		{"no ffmpeg", lonely, []string{"up", "--data", t.TempDir()}, 1, []string{"ffmpeg is not installed", "apt-get install ffmpeg", "--no-demo"}},
		{"no NATS", nobody, []string{"packager", "--nats", "nats://127.0.0.1:1", "--data", t.TempDir()}, 1, []string{"127.0.0.1:1", "--nats"}},
		{"data directory that is a file", nobody, []string{"up", "--data", file("")}, 1, []string{"data directory", "--data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, stderr := command(t, c.env, nil, c.args...)
			t.Logf("%d: %s", code, tail(strings.TrimSpace(stderr), 400))
			if code != c.code {
				t.Errorf("exit code %d, not %d", code, c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("does not say %q", s)
				}
			}
			if strings.Contains(stderr, "goroutine ") || strings.Contains(out, "goroutine ") {
				t.Error("panics")
			}
		})
	}
}

// TestStatsEvalAnswersPublicVectors: the evaluator reads cases from standard
// input and answers every one of them.
func TestStatsEvalAnswersPublicVectors(t *testing.T) {
	t.Parallel()
	vectors, err := os.ReadFile("../../analytics/stats/testdata/vectors_public.json")
	if err != nil {
		t.Fatal(err)
	}
	code, out, stderr := command(t, environment(t), bytes.NewReader(vectors), "stats", "eval")
	var file struct{ Cases []json.RawMessage }
	if err := json.Unmarshal(vectors, &file); err != nil || len(file.Cases) == 0 {
		t.Fatal(err)
	}
	lines := strings.Count(out, "\n")
	if want := len(file.Cases); code != 0 || lines != want || strings.TrimSpace(stderr) != "" {
		t.Errorf("exit code %d, %d answers to %d cases, said %s", code, lines, want, tail(stderr, 500))
	}
	// A line that is no case has an answer of its own; a file that breaks off is told.
	if code, out, _ := command(t, environment(t), strings.NewReader("no JSON\n"), "stats", "eval"); code != 0 || !strings.Contains(out, `"undefined":true`) || strings.Count(out, "\n") != 1 {
		t.Errorf("nonsense: exit code %d, %q", code, out)
	}
	if code, _, stderr := command(t, environment(t), bytes.NewReader(vectors[:len(vectors)/2]), "stats", "eval"); code == 0 || stderr == "" {
		t.Errorf("half a file: exit code %d, %q", code, stderr)
	}
}
