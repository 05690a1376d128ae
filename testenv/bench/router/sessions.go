package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// session was opened for the measurement.
type session struct {
	id, cdn  string
	token    string
	steering string // path and query of its steering address
}

// storedOneIn is which part of steering answers is a decision that is stored:
// players ask every 10 s, and routers store an answer that changes nothing once
// a minute. Here it is one of a player that has left for another CDN, which
// costs more than a repeated one.
const storedOneIn = 6

// request is one from a viewer of a cell, each from an address prefix of their own,
// so that each cell has viewers of all groups of addresses.
func (m *measurement) request(path string, cell, viewer int) []byte {
	prefix := viewer*m.Cells + cell
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %d.%d.%d.1\r\nX-Spillway-Region: %s\r\nX-Spillway-ISP: %s\r\n\r\n",
		path, m.addr, 11+prefix>>16%100, prefix>>8%256, prefix%256, region(cell), isp(cell))
}

func region(cell int) string { return fmt.Sprint("region", cell/20) }
func isp(cell int) string    { return fmt.Sprint("isp", cell%20) }

// dispatch gives requests of so many viewers of each cell.
func (m *measurement) dispatch(viewers int) (out [][]byte) {
	path := "/v1/dispatch?" + url.Values{"app": {m.App}, "stream": {m.Stream}, "viewer": {"bench"}}.Encode()
	for i := range viewers * m.Cells {
		out = append(out, m.request(path, i%m.Cells, i/m.Cells))
	}
	return out
}

// steering gives a request of each session: that it is where it is, but one in storedOneIn elsewhere.
func (m *measurement) steering() (out [][]byte) {
	for i, s := range m.sessions {
		cdn := s.cdn
		if i%storedOneIn == 0 {
			cdn = fmt.Sprint("cdn", 1+i%m.CDNs)
		}
		out = append(out, m.request(s.steering+"&_HLS_pathway=%22"+cdn+"%22&_HLS_throughput=5000000", i%m.Cells, i/m.Cells))
	}
	return out
}

// openSessions opens them as players do: dispatch, then the multivariant playlist.
func (m *measurement) openSessions(ctx context.Context) error {
	if err := m.Policy(ctx, "weighted"); err != nil {
		return err
	}
	m.sessions = make([]session, m.Sessions)
	var bad error
	err := m.all(ctx, m.dispatch(m.Sessions/m.Cells + 1)[:m.Sessions], func(i int, body []byte) {
		var d schemas.Dispatch
		if err := json.Unmarshal(body, &d); err != nil || d.Token == "" || len(d.Candidates) == 0 {
			bad = fmt.Errorf("dispatch answers %.300q", body)
			return
		}
		m.sessions[i] = session{id: d.SessionID, token: d.Token, cdn: d.Candidates[0].CDN}
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	var lists [][]byte
	for i, s := range m.sessions {
		lists = append(lists, m.request("/v1/play/"+m.App+"/"+m.Stream+"/multivariant.m3u8?s="+s.token, i%m.Cells, i/m.Cells))
	}
	err = m.all(ctx, lists, func(i int, body []byte) {
		const server = `SERVER-URI="`
		_, rest, _ := strings.Cut(string(body), server)
		address, _, ok := strings.Cut(rest, `"`)
		u, err := url.Parse(address)
		if err != nil || !ok {
			bad = fmt.Errorf("a multivariant playlist without steering: %.300q", body)
			return
		}
		m.sessions[i].steering = u.RequestURI()
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	return m.Policy(ctx, "quality")
}

// all asks each request once.
func (m *measurement) all(ctx context.Context, requests [][]byte, body func(int, []byte)) error {
	g := generator{requests: requests, window: 5 * time.Minute, most: len(requests), body: body}
	_, _, err := g.run(ctx, m.addr, m.Connections)
	return err
}

// feed publishes slices of the sessions until stop is called: each is served by
// its CDN, and loses a hundredth of its time.
func (m *measurement) feed(ctx context.Context) (stop func() error) {
	if m.Slices == 0 {
		return func() error { return nil }
	}
	const every = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		t := time.NewTicker(every)
		defer t.Stop()
		batch := make([]schemas.Slice, max(m.Slices/int(time.Second/every), 1))
		for next := 0; ; {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case now := <-t.C:
				for i := range batch {
					batch[i] = m.slice(next%len(m.sessions), now)
					next++
				}
				if err := m.Publish(ctx, batch); err != nil && ctx.Err() == nil {
					done <- fmt.Errorf("publish slices: %w", err)
					return
				}
			}
		}
	}()
	return func() error { cancel(); return <-done }
}

func (m *measurement) slice(i int, now time.Time) schemas.Slice {
	s := &m.sessions[i]
	return schemas.Slice{
		TimeUnixMs: now.UnixMilli(), Kind: schemas.SliceDelta, SessionID: s.id, App: m.App, Stream: m.Stream,
		CDN: s.cdn, Region: region(i % m.Cells), ISP: isp(i % m.Cells), PlayedMs: 9900, StalledMs: 100,
		BitrateKbpsMsSum: 3000 * 9900, BitrateWeightMs: 9900, Requests: 50, RequestBytes: 3_000_000, Reports: 2,
	}
}
