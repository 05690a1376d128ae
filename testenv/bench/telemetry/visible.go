package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas/token"
)

// probe measures how long after its 204 a report is in a roll-up: a session of
// its own for every sample, looked for by its stream's name.
type probe struct {
	l    *load
	conn driver.Conn
	wait []time.Duration
	lost int
}

const probeEvery = 250 * time.Millisecond

type sent struct {
	name string
	at   time.Time
}

func (p *probe) run(ctx context.Context) error {
	c, err := dial(ctx, p.l.addr)
	if err != nil {
		return err
	}
	defer c.close()
	open := map[string]time.Time{}
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			p.lost = len(open)
			return nil
		case <-t.C:
		}
		s, err := p.send(c, i)
		if err != nil {
			if ctx.Err() != nil {
				continue
			}
			return err
		}
		open[s.name] = s.at
		if err := p.look(ctx, open); err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func (p *probe) send(c *poster, i int) (sent, error) {
	name := "probe" + strconv.Itoa(i)
	sid := "0000feed-0000-4000-8000-" + fmt.Sprintf("%012d", i)
	tok, err := p.l.sign(token.Session{SessionID: sid, App: "probe", Stream: name, CDN: "a", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		return sent{}, err
	}
	body := fmt.Sprintf("cid=\"probe/%s\",e=ps,sf=h,sid=\"%s\",sn=1,st=ll,sta=s,ts=%d,v=2\n", name, sid, time.Now().UnixMilli())
	req := fmt.Appendf(nil, "POST %s?t=%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/cmcd\r\nContent-Length: %d\r\n\r\n%s", p.l.path, tok, p.l.addr, len(body), body)
	if _, err := c.post(req); err != nil {
		return sent{}, err
	}
	return sent{name, time.Now()}, nil
}

func (p *probe) look(ctx context.Context, open map[string]time.Time) error {
	rows, err := p.conn.Query(ctx, "SELECT DISTINCT stream FROM rollup_stream_minute WHERE app = 'probe' AND minute >= now() - 120")
	if err != nil {
		return fmt.Errorf("look for probes in the roll-up: %w", err)
	}
	defer rows.Close()
	now := time.Now()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		if at, ok := open[name]; ok {
			p.wait = append(p.wait, now.Sub(at))
			delete(open, name)
		}
	}
	return rows.Err()
}

// percentileMs of what was waited, nearest rank; 0 without samples.
func percentileMs(d []time.Duration, q float64) int64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(q*float64(len(s))))].Milliseconds()
}
