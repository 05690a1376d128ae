package collect

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

const perPost = 20

type post struct{ path, body string }

// posts makes n requests of perPost hls.js events, each of a session of its own.
func posts(r *rig, n int) []post {
	out := make([]post, n)
	for i := range out {
		var b strings.Builder
		sid := fmt.Sprintf("353c2f94-7c26-4424-9997-%012d", i)
		for j := range perPost {
			fmt.Fprintf(&b, `bl=(%d),br=(%d),cid="live/one",e=rr,mtp=(%d),rc=200,sf=h,sid="%s",sn=%d,st=l,sta=p,ts=%d,ttfb=%d,ttlb=%d,url="http://127.0.0.1:8801/t/xyz/live/one/src/video/1-%d.%d.m4s",v=2`+"\n",
				(i*7+j)%90*100, []int{400, 800, 1200, 2400}[i%4], (i+j)%500*100, sid, j, time.Now().UnixMilli()+int64(j), j%13, 20+j%29, i%7+j/5, j%10)
		}
		out[i] = post{"/v1/cmcd?t=" + r.token(func(c *token.Session) { c.SessionID = sid }), b.String()}
	}
	return out
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPost20 is the whole way from a POST of 20 events to its 204: HTTP,
// parsing, batching, and the embedded bus in the same process writing to disk.
// cpu-us/event covers all of that and, with "tcp", a small client too.
func BenchmarkPost20(b *testing.B) {
	report := func(b *testing.B, used time.Duration) {
		events := float64(b.N * perPost)
		b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(used.Microseconds())/events, "cpu-us/event")
		b.ReportMetric(0, "ns/op")
	}
	// As many clients as a loaded collector has: their posts share batches.
	for _, clients := range []int{64, 512} {
		b.Run("handler/clients="+strconv.Itoa(clients), func(b *testing.B) {
			r := newRig(b, func(s *Settings) { s.FlushAfter = 0 })
			h, posts := r.c.Handler(), posts(r, 512)
			used := run(b, clients, func(i int64) error {
				p := posts[i%int64(len(posts))]
				req := httptest.NewRequest(http.MethodPost, p.path, strings.NewReader(p.body))
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, req); w.Code != http.StatusNoContent {
					return fmt.Errorf("answered %d", w.Code)
				}
				return nil
			})
			report(b, used)
		})
		b.Run("tcp/clients="+strconv.Itoa(clients), func(b *testing.B) {
			r := newRig(b, func(s *Settings) { s.FlushAfter = 0 })
			posts := posts(r, 512)
			reqs := make([][]byte, len(posts))
			for i, p := range posts {
				reqs[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: c\r\nOrigin: http://page\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/156\r\nContent-Type: application/cmcd\r\nContent-Length: %d\r\n\r\n%s", p.path, len(p.body), p.body)
			}
			conns := make(chan *bufio.ReadWriter, clients)
			for range clients {
				c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				conns <- bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
			}
			used := run(b, clients, func(i int64) error {
				c := <-conns
				defer func() { conns <- c }()
				if _, err := c.Write(reqs[i%int64(len(reqs))]); err != nil {
					return err
				}
				if err := c.Flush(); err != nil {
					return err
				}
				status, err := c.ReadString('\n')
				if err != nil || !strings.Contains(status, " 204 ") {
					return fmt.Errorf("answered %q: %w", status, err)
				}
				for line := status; line != "\r\n"; {
					if line, err = c.ReadString('\n'); err != nil {
						return err
					}
				}
				return nil
			})
			report(b, used)
		})
	}
}

// run does b.N posts with as many goroutines as there are clients, and gives the CPU time of the process.
func run(b *testing.B, clients int, post func(i int64) error) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	before := cpu(b)
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				if err := post(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	return cpu(b) - before
}

// BenchmarkCDNLogLine is what one log line with CMCD costs up to its row.
func BenchmarkCDNLogLine(b *testing.B) {
	r := newRig(b, nil)
	line := strings.TrimSpace(logLine(1, func(l *schemas.CDNLogLine) {
		l.CMCD = `bl=(6300),br=(510),cid="live/one",d=200,dl=6300,mtp=(46100),ot=v,rtp=2600,sf=h,sid="s",sn=18,st=ll,sta=p,tb=(510),v=2`
	}))
	l := logReader{c: r.c, recvUs: time.Now().UnixMicro()}
	rows := make([]schemas.Telemetry, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if len(rows) == cap(rows) {
			rows = rows[:0]
		}
		if _, ok := l.add(&rows, line); !ok {
			b.Fatal("rejected")
		}
	}
}
