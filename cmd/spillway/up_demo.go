package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/geodb"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// demoExperiment is the experiment a fresh system starts with: does staying
// further behind live cost viewers anything but delay, and does it save stalls?
func demoExperiment(now time.Time) *schemas.Experiment {
	return &schemas.Experiment{
		Name:       "player-delay",
		Hypothesis: "playing 2 s behind the live edge instead of the playlist's hold-back lowers the stall ratio",
		Owner:      "demo",
		Status:     schemas.ExperimentRunning,
		Salt:       "player-delay-1",
		Unit:       "viewer",
		Layer:      "player",
		Coverage:   1,
		Arms: []schemas.Arm{
			{Name: "holdback", Weight: 1},
			{Name: "relaxed", Weight: 1, Params: map[string]string{schemas.ParamLiveSyncSec: "2"}},
		},
		PrimaryMetric: "stall_ratio",
		StartedUnixUs: now.UnixMicro(),
	}
}

// ensureDemoExperiment creates it once; what an operator made of it since stays.
func (s *system) ensureDemoExperiment(ctx ctx) error {
	kv, err := s.d.js.KeyValue(ctx, schemas.BucketExperiments)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketExperiments, err)
	}
	x := demoExperiment(time.Now())
	if err := x.Check(); err != nil {
		return err
	}
	v, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := kv.Create(ctx, x.Name, v); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("create experiment %s: %w", x.Name, err)
	}
	return nil
}

// startDemo pushes the demo stream and lets viewers watch it.
func (s *system) startDemo(ctx ctx) error {
	if s.f.noDemo || s.run.Push == "" {
		return nil
	}
	push, err := s.demoPush()
	if err != nil {
		return err
	}
	p := &publisher.Publisher{
		URL: push, Name: demoApp + "/" + demoStream, Input: s.f.input, Logger: s.d.log("demo-publisher"),
	}
	s.add(role{"demo publisher", p.Run})
	if err := s.waitLive(ctx, schemas.StreamKey{App: demoApp, Stream: demoStream}, 30*time.Second); err != nil {
		return err
	}
	if len(s.edges) == 0 {
		return nil
	}
	if err := s.waitPlayable(ctx, 20*time.Second); err != nil {
		return err
	}
	return s.startViewers(ctx)
}

// demoPush is where the demo publisher pushes to.
func (s *system) demoPush() (string, error) {
	push := s.run.Push + "/" + demoStream
	if s.f.openPub {
		return push, nil
	}
	// It needs a key like everybody else.
	key, err := s.d.signer.SignPublish(token.Publish{App: demoApp, Stream: demoStream, ExpiresUnix: time.Now().AddDate(1, 0, 0).Unix()})
	if err != nil {
		return "", fmt.Errorf("key of the demo publisher: %w", err)
	}
	return push + "?key=" + key, nil
}

// waitLive blocks until the stream's state says that it is live.
func (s *system) waitLive(ctx ctx, k schemas.StreamKey, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	kv, err := s.d.js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketStreams, err)
	}
	began := time.Now().UnixMicro()
	w, err := kv.Watch(ctx, k.KVKey())
	if err != nil {
		return fmt.Errorf("watch %s: %w", k, err)
	}
	defer w.Stop()
	for {
		select {
		case e := <-w.Updates():
			var st schemas.StreamState
			if e != nil && json.Unmarshal(e.Value(), &st) == nil && st.Live && st.UpdatedUnixUs > began {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("the demo stream %s is not live after %s: see the log above for what the publisher and ingest say", k, limit)
		}
	}
}

// waitPlayable blocks until every edge has a multivariant playlist of the demo stream.
func (s *system) waitPlayable(ctx ctx, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for name, u := range s.run.HLS {
		for {
			code, err := get(ctx, u)
			if err == nil && code == http.StatusOK {
				break
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("CDN %s has no playlist of the demo stream after %s: last answer %d, %v", name, limit, code, err)
			}
		}
	}
	return nil
}

func get(ctx ctx, u string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	r.Body.Close()
	return r.StatusCode, nil
}

// openGeo places viewers by the operator's databases or, for the demo, by a
// small one of ranges that no real viewer has (127.1.0.0 and up among them).
func (s *system) openGeo(dir string) (*geo.Locator, error) {
	files := s.f.geo
	if files == "" && !s.f.noDemo {
		files = filepath.Join(dir, "demo.mmdb")
		if err := geodb.Write(files, geodb.Default()); err != nil {
			return nil, err
		}
	}
	return openGeo(files, s.f.proxies)
}

// startViewers lets simulated viewers watch the demo stream on every CDN.
func (s *system) startViewers(ctx) error {
	if s.f.viewers <= 0 || s.run.Router == "" {
		return nil
	}
	var cdns []string
	for _, e := range s.edges {
		cdns = append(cdns, e.Record().Name)
	}
	p := &viewer.Pool{
		Config:  viewer.Config{Dispatch: s.run.Router, App: demoApp, Stream: demoStream, Logger: s.d.log("viewer")},
		CDNs:    cdns,
		PerCDN:  s.f.viewers,
		Regions: []string{"eu", "us", "asia"},
		ISPs:    []string{"north-net", "south-net"},
		Logger:  s.d.log("viewers"),
	}
	s.add(role{"viewers", p.Run})
	return nil
}
