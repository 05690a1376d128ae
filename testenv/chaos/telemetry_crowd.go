package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/schemas/token"
)

// chaosApp is the application of all players of a telemetry run.
const chaosApp = "chaos"

// tryKey is the custom CMCD key that numbers POSTs, so that each can be found in the raw table.
const tryKey = "com.example-try"

// perPost is the events of a POST.
const perPost = 10

// posted is one POST: what was sent under its number, and what was answered to it and its replays.
type posted struct {
	events int
	ok     int // answered 204
	// unknown: not answered, or answered that it was not accepted; its rows may be there, all or some, once for each.
	unknown int
}

// crowd is players that report over HTTP, repeat what was not answered 204 until it is, sometimes repeat what was,
// and whose clocks jump.
type crowd struct {
	s    *TelemetrySettings
	urls []string
	http *http.Client

	mu       sync.Mutex
	posts    []posted
	sessions int

	accepted, unknown, replays, jumps, refused atomic.Int64
}

func newCrowd(s *TelemetrySettings, urls []string) *crowd {
	return &crowd{s: s, urls: urls, http: &http.Client{
		Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: s.Players, DisableCompression: true},
	}}
}

// run plays until ctx ends; then every player says goodbye, and run returns when all that was begun is accepted.
func (c *crowd) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, c.s.Players)
	for i := range c.s.Players {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(c.s.Seed, uint64(i)+1000))
			// Not all at once.
			_ = nap.For(ctx, time.Duration(rnd.Int64N(int64(time.Second))))
			for n := 0; ctx.Err() == nil; n++ {
				if err := c.play(ctx, rnd, fmt.Sprintf("c0ffee00-%04d-4000-8000-%012d", i, n)); err != nil {
					errs <- err
					return
				}
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

// player is one session.
type player struct {
	c     *crowd
	rnd   *rand.Rand
	sid   string
	token string
	name  string // of its stream
	cdn   string
	boot  string // of the edge's process that logs its requests

	viewer, arms, isp string

	sn    int64
	jump  time.Duration // of its clock
	most  time.Duration // it ever was ahead
	kept  [][]byte      // bodies to be posted again
	tries []int         // and their numbers
}

// play is one session: 15 to 60 s of reports, or until ctx ends.
func (c *crowd) play(ctx context.Context, rnd *rand.Rand, sid string) error {
	p := &player{
		c: c, rnd: rnd, sid: sid, name: "s" + strconv.Itoa(rnd.IntN(20)), cdn: string(rune('a' + rnd.IntN(3))), boot: "of-" + sid[9:13],
		viewer: fmt.Sprintf("%016x", rnd.Uint64()), arms: []string{"x=a", "x=b"}[rnd.IntN(2)], isp: "isp" + strconv.Itoa(rnd.IntN(5)),
	}
	var err error
	p.token, err = c.s.Signer.SignSession(token.Session{
		SessionID: sid, App: chaosApp, Stream: p.name, ViewerID: p.viewer, CDN: p.cdn,
		Arms: p.arms, Region: "eu", ISP: p.isp, ExpiresUnix: time.Now().Add(24 * time.Hour).Unix(),
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.sessions++
	c.mu.Unlock()
	every := time.Duration(float64(c.s.Players*perPost) / float64(c.s.EventsPerSecond) * float64(time.Second))
	end := time.Now().Add(15*time.Second + time.Duration(rnd.Int64N(int64(45*time.Second))))
	// What is begun is accepted in the end, also after the last kill.
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Until(end)+10*time.Minute)
	defer cancel()
	for time.Now().Before(end) && ctx.Err() == nil {
		if rnd.IntN(200) == 0 { // somebody sets the device's clock, or it was set right
			p.jump = []time.Duration{0, time.Hour, -time.Hour, 48 * time.Hour, -30 * time.Second}[rnd.IntN(5)]
			// More than a day is not believed: the collector's own time is taken then, which is an hour ahead at most.
			p.most = max(p.most, min(p.jump, 61*time.Minute))
			c.jumps.Add(1)
		}
		if err := p.post(sending, p.events(every, false)); err != nil {
			return err
		}
		if err := p.again(sending); err != nil {
			return err
		}
		if rnd.IntN(4) == 0 {
			if err := p.requests(sending); err != nil {
				return err
			}
		}
		_ = nap.For(ctx, every)
	}
	if ctx.Err() != nil {
		p.jump = p.most // so that the goodbye is the newest report: others' sessions may end by silence, the last ones need not
	}
	return p.post(sending, p.events(every, true))
}

// events are the next reports, without the number of the POST.
func (p *player) events(every time.Duration, last bool) []string {
	out := make([]string, 0, perPost)
	for j := range perPost {
		ts := time.Now().Add(p.jump).UnixMilli() - int64(perPost-1-j)*every.Milliseconds()/perPost
		p.sn++
		event, state := "t", "p"
		switch {
		case p.sn == 1:
			event, state = "ps", "s"
		case p.sn == 2, p.sn%97 == 1:
			event = "ps"
		case p.sn%97 == 0:
			event, state = "ps", "r"
		case last && j == perPost-1:
			event, state = "ps", "q"
		}
		out = append(out, fmt.Sprintf(`br=(%d);v,cid="%s/%s",e=%s,ltc=%d,sf=h,sid="%s",sn=%d,st=ll,sta=%s,ts=%d,v=2`,
			1000+p.rnd.IntN(4)*500, chaosApp, p.name, event, 1500+p.rnd.IntN(500), p.sid, p.sn, state, ts))
	}
	return out
}

// post sends reports until they are accepted; each try has a number of its own.
func (p *player) post(ctx context.Context, events []string) error {
	for {
		try := p.c.number(len(events))
		var b bytes.Buffer
		for _, e := range events {
			fmt.Fprintf(&b, "%s=\"%d\",%s\n", tryKey, try, e)
		}
		ok, err := p.send(ctx, b.Bytes(), try)
		if err != nil {
			return err
		}
		if ok {
			switch p.rnd.IntN(50) {
			case 0:
				p.c.replays.Add(1)
				_, err = p.send(ctx, b.Bytes(), try)
			case 1:
				p.kept, p.tries = append(p.kept, b.Bytes()), append(p.tries, try)
			}
			return err
		}
		if nap.For(ctx, 100*time.Millisecond+time.Duration(p.rnd.Int64N(int64(300*time.Millisecond)))) != nil {
			return fmt.Errorf("session %s: its reports were not accepted to the end: %w", p.sid, ctx.Err())
		}
	}
}

// again posts what was accepted a while ago a second time.
func (p *player) again(ctx context.Context) error {
	if len(p.kept) == 0 || p.rnd.IntN(10) > 0 {
		return nil
	}
	body, try := p.kept[0], p.tries[0]
	p.kept, p.tries = p.kept[1:], p.tries[1:]
	p.c.replays.Add(1)
	_, err := p.send(ctx, body, try)
	return err
}

// send posts once, to any collector; the error is that of a run that cannot go on.
func (p *player) send(ctx context.Context, body []byte, try int) (ok bool, err error) {
	c := p.c
	u := c.urls[p.rnd.IntN(len(c.urls))] + "/v1/cmcd?t=" + p.token
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/cmcd")
	return c.do(ctx, req, try)
}

// do posts once and notes the answer; the error is that of a run that cannot go on.
func (c *crowd) do(ctx context.Context, req *http.Request, try int) (ok bool, err error) {
	req.GetBody = nil // what is not answered is tried again by those who ask here
	res, err := c.http.Do(req)
	if err != nil {
		c.note(try, false)
		if ctx.Err() != nil {
			return false, fmt.Errorf("POST %d was not accepted to the end: %w", try, ctx.Err())
		}
		return false, nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
	res.Body.Close()
	switch res.StatusCode {
	case http.StatusNoContent:
	case http.StatusOK: // not accepted, for lack of room
		c.refused.Add(1)
		c.note(try, false)
		return false, nil
	default:
		return false, errors.New("a collector answered " + res.Status + ": " + string(text))
	}
	c.note(try, true)
	return true, nil
}

// number opens a POST's account.
func (c *crowd) number(events int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = append(c.posts, posted{events: events})
	return len(c.posts) - 1
}

func (c *crowd) note(try int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.posts[try]
	if ok {
		p.ok++
		c.accepted.Add(int64(p.events))
	} else {
		p.unknown++
		c.unknown.Add(int64(p.events))
	}
}
