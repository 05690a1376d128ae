package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

// load posts CMCD v2 event reports as hls.js writes them, each POST with the
// reports that one session has gathered, over connections that stay open.
type load struct {
	addr, path string
	sign       func(token.Session) (string, error)
	sessions   int
	perPost    int
	rate       int // events/s
	conns      int

	accepted atomic.Int64 // events answered 204
	refused  atomic.Int64 // POSTs answered otherwise
	late     atomic.Int64 // POSTs that could not be begun when due
}

// viewer is one playback session.
type viewer struct {
	head []byte // the request up to the length
	sid  string
	cdn  string
	n    int
	sn   int64
}

func (l *load) viewer(i int) (*viewer, error) {
	v := &viewer{sid: fmt.Sprintf("353c2f94-7c26-4424-%04x-%012d", i%65536, i), cdn: string(rune('a' + i%3)), n: i}
	tok, err := l.sign(token.Session{
		SessionID: v.sid, App: "bench", Stream: "stream" + strconv.Itoa(i%200), ViewerID: fmt.Sprintf("%016x", i*2654435761),
		CDN: v.cdn, Arms: []string{"start=control", "start=treatment"}[i%2], Region: []string{"eu", "us", "ap"}[i%3],
		ISP: "isp" + strconv.Itoa(i%20), ExpiresUnix: time.Now().Add(24 * time.Hour).Unix(),
	})
	if err != nil {
		return nil, err
	}
	v.head = fmt.Appendf(nil, "POST %s?t=%s HTTP/1.1\r\nHost: %s\r\nOrigin: http://page.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\nContent-Type: application/cmcd\r\nContent-Length: ", l.path, tok, l.addr)
	return v, nil
}

// body appends a session's next reports, oldest first: requests for parts of
// picture and sound, one interval report, now and then a change of state.
func (v *viewer) body(b []byte, perPost int, now time.Time, every time.Duration) []byte {
	for j := range perPost {
		ts := now.UnixMilli() - int64(perPost-1-j)*every.Milliseconds()/int64(perPost)
		v.sn++
		event, state := "rr", "p"
		switch {
		case v.sn == 1:
			event, state = "ps", "s"
		case v.sn == 2:
			event = "ps"
		case v.sn > 20 && v.n%50 == 0 && v.sn%97 == 0:
			event, state = "ps", "r"
		case v.sn > 20 && v.n%50 == 0 && v.sn%97 == 1:
			event = "ps"
		case j == perPost-1:
			event = "t"
		}
		k := v.n + int(v.sn)
		b = append(b, "bl=("...)
		b = strconv.AppendInt(b, int64(k*7%40)*100, 10)
		b = append(b, ");v,br=("...)
		b = strconv.AppendInt(b, int64(400<<(v.n%3)), 10)
		b = append(b, ");v,cid=\"bench/stream"...)
		b = strconv.AppendInt(b, int64(v.n%200), 10)
		b = append(b, "\",d=200,e="...)
		b = append(b, event...)
		b = append(b, ",ltc="...)
		b = strconv.AppendInt(b, int64(1400+k*37%900), 10)
		b = append(b, ",mtp=("...)
		b = strconv.AppendInt(b, int64(k*13%500)*100, 10)
		b = append(b, ")"...)
		if event == "rr" {
			b = append(b, ",ot=v"...)
		}
		b = append(b, ",pb=("...)
		b = strconv.AppendInt(b, int64(400<<(v.n%3)), 10)
		b = append(b, "),pr=1,pt="...)
		b = strconv.AppendInt(b, v.sn*100, 10)
		if event == "rr" {
			b = append(b, ",rc=200"...)
		}
		b = append(b, ",sf=h,sid=\""...)
		b = append(b, v.sid...)
		b = append(b, "\",sn="...)
		b = strconv.AppendInt(b, v.sn, 10)
		b = append(b, ",st=ll,sta="...)
		b = append(b, state...)
		b = append(b, ",tb=(2400),ts="...)
		b = strconv.AppendInt(b, ts, 10)
		if event == "rr" {
			b = append(b, ",ttfb="...)
			b = strconv.AppendInt(b, int64(5+k%13), 10)
			b = append(b, ",ttlb="...)
			b = strconv.AppendInt(b, int64(20+k%29), 10)
			b = append(b, ",url=\"http://cdn-"...)
			b = append(b, v.cdn...)
			b = append(b, ".example/bench/stream"...)
			b = strconv.AppendInt(b, int64(v.n%200), 10)
			b = append(b, "/src/video/1-"...)
			b = strconv.AppendInt(b, v.sn/10, 10)
			b = append(b, '.')
			b = strconv.AppendInt(b, v.sn%10, 10)
			b = append(b, ".m4s\""...)
		}
		b = append(b, ",v=2\n"...)
	}
	return b
}

// run posts at the rate until ctx ends.
func (l *load) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, l.conns)
	begin := time.Now()
	for c := range l.conns {
		wg.Go(func() {
			if err := l.connection(ctx, c, begin); err != nil && ctx.Err() == nil {
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

// connection posts for every conns-th session in turn.
func (l *load) connection(ctx context.Context, c int, begin time.Time) error {
	var mine []*viewer
	for i := c; i < l.sessions; i += l.conns {
		v, err := l.viewer(i)
		if err != nil {
			return err
		}
		mine = append(mine, v)
	}
	if len(mine) == 0 {
		return nil
	}
	p, err := dial(ctx, l.addr)
	if err != nil {
		return err
	}
	defer p.close()
	every := time.Duration(float64(l.conns*l.perPost) / float64(l.rate) * float64(time.Second))
	round := time.Duration(len(mine)) * every // between two POSTs of a session
	next := begin.Add(time.Duration(c) * every / time.Duration(l.conns))
	var body, req []byte
	for i := 0; ctx.Err() == nil; i++ {
		if d := time.Until(next); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return nil
			}
		} else if d < -time.Second {
			l.late.Add(1)
			next = time.Now()
		}
		next = next.Add(every)
		v := mine[i%len(mine)]
		body = v.body(body[:0], l.perPost, time.Now(), round)
		req = append(req[:0], v.head...)
		req = strconv.AppendInt(req, int64(len(body)), 10)
		req = append(append(req, "\r\n\r\n"...), body...)
		code, err := p.post(req)
		if err != nil {
			return err
		}
		if code == 204 {
			l.accepted.Add(int64(l.perPost))
		} else {
			l.refused.Add(1)
		}
	}
	return nil
}

// poster is one HTTP/1.1 connection. net/http's client costs more than what is measured.
type poster struct {
	c net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, addr string) (*poster, error) {
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &poster{c, bufio.NewReaderSize(c, 4<<10)}, nil
}

func (p *poster) close() { _ = p.c.Close() }

// post writes a request and reads an answer without a body.
func (p *poster) post(req []byte) (int, error) {
	if err := p.c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := p.c.Write(req); err != nil {
		return 0, fmt.Errorf("post reports: %w", err)
	}
	code := 0
	for {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the collector's answer: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if code == 0 {
			f := bytes.Fields(line)
			if len(f) < 2 {
				return 0, fmt.Errorf("the collector answered %q", line)
			}
			if code, err = strconv.Atoi(string(f[1])); err != nil {
				return 0, fmt.Errorf("the collector answered %q", line)
			}
			continue
		}
		if len(line) == 0 {
			break
		}
	}
	if code != 204 {
		return code, errors.New("the collector answered " + strconv.Itoa(code) + ", not 204")
	}
	return code, nil
}
