package publishprobe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// atOnce is how many probes are under way together: more would measure each other.
	atOnce    = 4
	maxAnswer = 1 << 20
)

// Row is what was measured of one way to publish.
type Row struct {
	CDN       string `json:"cdn"`
	Transport string `json:"transport"`
	Over      string `json:"over"`
	URL       string `json:"url"`
	// RTTMs and TotalMs are 0 where it failed.
	RTTMs   float64 `json:"rtt_ms"`
	TotalMs float64 `json:"total_ms"`
	// Error says why it failed; Skipped: the answer names no probe.
	Error   string `json:"error,omitempty"`
	Skipped bool   `json:"skipped,omitempty"`
}

// Measured is the story of one publisher: what it measured and where it goes.
type Measured struct {
	Rows []Row `json:"rows"`
	// Answer is the router's last: to the report, where one was sent.
	Answer *schemas.Dispatch `json:"answer"`
	// CDN, Transport and URL are where to publish; empty where nothing is reached.
	CDN       string `json:"cdn"`
	Transport string `json:"transport"`
	URL       string `json:"url"`
}

// Ask asks a router where to publish a stream.
func Ask(ctx context.Context, router string, k schemas.StreamKey) (*schemas.Dispatch, error) {
	v := url.Values{"publish": {"1"}, "app": {k.App}, "stream": {k.Stream}}
	return answer(ctx, http.MethodGet, strings.TrimSuffix(router, "/")+"/v1/dispatch?"+v.Encode(), nil)
}

func answer(ctx context.Context, method, address string, body []byte) (*schemas.Dispatch, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		var no schemas.ErrorAnswer
		_ = json.Unmarshal(b, &no) // else the status says what is known
		return nil, fmt.Errorf("the router answers %s %s", res.Status, no.Error)
	}
	var d schemas.Dispatch
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("the router's answer: %w", err)
	}
	return &d, nil
}

// Run asks, measures the first candidates (at most most of them), reports unless
// quiet, and chooses: the first transport of the router's order that was reached.
func (p *Prober) Run(ctx context.Context, router string, k schemas.StreamKey, most int, quiet bool) (*Measured, error) {
	d, err := Ask(ctx, router, k)
	if err != nil {
		return nil, err
	}
	d.Candidates = d.Candidates[:min(most, len(d.Candidates))]
	m := &Measured{Rows: p.measure(ctx, d), Answer: d}
	if rep := m.report(); !quiet && len(rep.Results) > 0 && d.Probes != "" {
		b, err := json.Marshal(rep)
		if err != nil {
			return nil, err
		}
		// Without the router's word the publisher goes by what it measured.
		if again, rerr := answer(ctx, http.MethodPost, d.Probes, b); rerr == nil {
			m.Answer = again
		} else {
			err = fmt.Errorf("report: %w", rerr)
		}
		m.choose()
		return m, err
	}
	m.choose()
	return m, ctx.Err()
}

// measure does all probes of an answer, few at a time.
func (p *Prober) measure(ctx context.Context, d *schemas.Dispatch) (rows []Row) {
	var wait sync.WaitGroup
	free := make(chan struct{}, atOnce)
	var probes []*schemas.TransportProbe
	for _, c := range d.Candidates {
		for _, t := range c.Transports {
			rows, probes = append(rows, Row{CDN: c.CDN, Transport: t.Name, Over: t.Over, URL: t.URL, Skipped: t.Probe == nil}), append(probes, t.Probe)
		}
	}
	for i := range rows {
		if rows[i].Skipped {
			continue
		}
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			rtt, total, err := p.Measure(ctx, probes[i])
			if err != nil {
				rows[i].Error = err.Error()
				return
			}
			rows[i].RTTMs, rows[i].TotalMs = ms(rtt), ms(total)
		})
	}
	wait.Wait()
	return rows
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// report is what a router is told.
func (m *Measured) report() *schemas.ProbeReport {
	rep := &schemas.ProbeReport{}
	for _, r := range m.Rows {
		if !r.Skipped && len(rep.Results) < schemas.MaxPublishResults {
			rep.Results = append(rep.Results, schemas.ProbeResult{CDN: r.CDN, Transport: r.Transport, FirstByteMs: r.RTTMs, TotalMs: max(r.TotalMs, r.RTTMs), Failed: r.Error != ""})
		}
	}
	return rep
}

// choose takes the first way of the answer that was measured and did not fail, or that names
// no probe: the answer to a report has candidates again that were not measured here.
func (m *Measured) choose() {
	tried := map[[2]string]bool{}
	for _, r := range m.Rows {
		tried[[2]string{r.CDN, r.Transport}] = r.Error == ""
	}
	for _, c := range m.Answer.Candidates {
		for _, t := range c.Transports {
			if tried[[2]string{c.CDN, t.Name}] {
				m.CDN, m.Transport, m.URL = c.CDN, t.Name, t.URL
				return
			}
		}
	}
}

// ErrUnreached is what publishers are told when no way was reached.
var ErrUnreached = errors.New("no candidate is reached by any transport: check the network, and the router's --publish-url")
