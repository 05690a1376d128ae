package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/schemas/token"
)

const (
	perLog  = 6 // log lines of a POST
	lineTry = 8 // a POST's number x lineTry + 1 is the number of its first line

	reporters = 10 // streams of which ingest has something to say, once a second, and of which half have an app that reports
)

// Reporter sends rows as an ingest does: it keeps them until the bus has taken them.
type Reporter interface {
	Telemetry(schemas.Telemetry)
	Run(ctx context.Context) error
}

// logLines are what an edge has to say of a player's last requests, half of them with the CMCD that these carried.
func (p *player) logLines(try int) []byte {
	var b bytes.Buffer
	for j := range perLog {
		l := schemas.CDNLogLine{
			TsMs: time.Now().UnixMilli(), CDN: p.cdn, Server: p.cdn + ".example:443", Boot: p.boot, Seq: uint64(try*lineTry + j + 1),
			Method: http.MethodGet, Path: fmt.Sprintf("/%s/%s/src/video/1-%d.%d.m4s", chaosApp, p.name, try, j),
			Status: []int{200, 200, 200, 200, 404, 503, 0}[p.rnd.IntN(7)], Bytes: p.rnd.Int64N(1 << 20),
			FirstByteMs: float64(1 + p.rnd.IntN(400)), TotalMs: float64(400 + p.rnd.IntN(600)), CacheHit: p.rnd.IntN(3) > 0,
			SessionID: p.sid, ViewerID: p.viewer, App: chaosApp, Stream: p.name, Arms: p.arms, Region: "eu", ISP: p.isp,
		}
		if j%2 == 0 {
			l.CMCD = fmt.Sprintf(`br=%d,ot=v,sf=h,sid="%s",st=ll`, 1000+p.rnd.IntN(4)*500, p.sid)
		}
		line, _ := json.Marshal(l) // numbers and words
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

// requests posts the log of some requests as an edge does: the same lines again until they are accepted.
func (p *player) requests(ctx context.Context) error {
	try := p.c.number(perLog)
	body := p.logLines(try)
	return p.c.until(ctx, p.rnd, try, func(base string) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/cdnlog", bytes.NewReader(body))
		if err == nil {
			req.Header.Set(schemas.HeaderEdgeKey, p.c.s.EdgeKey)
			req.Header.Set("Content-Type", "application/x-ndjson")
		}
		return req, err
	})
}

// until posts under one number until it is accepted.
func (c *crowd) until(ctx context.Context, rnd *rand.Rand, try int, request func(base string) (*http.Request, error)) error {
	for {
		req, err := request(c.urls[rnd.IntN(len(c.urls))])
		if err != nil {
			return err
		}
		ok, err := c.do(ctx, req, try)
		if ok || err != nil {
			return err
		}
		if nap.For(ctx, 100*time.Millisecond+time.Duration(rnd.Int64N(int64(300*time.Millisecond)))) != nil {
			return fmt.Errorf("POST %d was not accepted to the end: %w", try, ctx.Err())
		}
	}
}

// apps are publishers' apps that report once a second until ctx ends, what is begun to its end.
func (c *crowd) apps(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, reporters)
	for i := range reporters / 2 {
		wg.Go(func() {
			if err := c.app(ctx, i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (c *crowd) app(ctx context.Context, i int) error {
	rnd := rand.New(rand.NewPCG(c.s.Seed, uint64(i)+5000))
	name := fmt.Sprintf("s%d", i)
	key, err := c.s.Signer.SignPublish(token.Publish{App: chaosApp, Stream: name, ExpiresUnix: time.Now().Add(24 * time.Hour).Unix()})
	if err != nil {
		return err
	}
	for nap.For(ctx, time.Second) == nil {
		// What is begun is accepted in the end, also after the last kill.
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		try := c.number(1)
		// sn is the POST's number, by which the row is found.
		body := fmt.Sprintf(`{"app":%q,"stream":%q,"sn":%d,"interval_ms":1000,"stalled_ms":%d,"fps":%d,"bitrate_bps":%d}`,
			chaosApp, name, try, rnd.IntN(300), 24+rnd.IntN(7), 1_000_000+rnd.IntN(1_000_000))
		err := c.until(sending, rnd, try, func(base string) (*http.Request, error) {
			req, err := http.NewRequestWithContext(sending, http.MethodPost, base+"/v1/publisher", bytes.NewReader([]byte(body)))
			if err == nil {
				req.Header.Set("Authorization", "Bearer "+key)
			}
			return req, err
		})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// ingest tells of publishers what an ingest measures, once a second until playing ends; what was told is sent until
// ctx ends. It counts the rows told.
func (r *telemetryRun) ingest(ctx, playing context.Context, js jetstream.JetStream, told *atomic.Int64) error {
	rep, err := r.s.NewReporter(js)
	if err != nil {
		return err
	}
	go func() {
		rnd := rand.New(rand.NewPCG(r.s.Seed, 0x1269e57))
		for nap.For(playing, time.Second) == nil {
			for i := range reporters {
				now := time.Now()
				rep.Telemetry(schemas.Telemetry{
					ReceivedUnixUs: now.UnixMicro(), TsUnixMs: now.UnixMilli(), Source: schemas.SourcePublisher, Event: "publish",
					App: chaosApp, Stream: fmt.Sprintf("s%d", i), ContentID: fmt.Sprintf("%s/s%d", chaosApp, i),
					FPS: columnar.Some(float64(24 + rnd.IntN(7))), PublishBps: columnar.Some(int64(1_000_000 + rnd.IntN(1_000_000))), PublishStallMs: columnar.Some(int64(rnd.IntN(300))),
				})
				told.Add(1)
			}
		}
	}()
	go func() { _ = rep.Run(ctx) }() // gives nil
	return nil
}
