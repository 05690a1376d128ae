package bench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/peers"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/testcard"
)

// PlayerSettings say how to measure what a viewer gets: hls.js with default settings in Chromium.
type PlayerSettings struct {
	// HLSJS is the source of hls.js. Required.
	HLSJS []byte
	// Browser is Chromium's path; looked for when empty.
	Browser string
	// Views is how often each server is watched in each round; 3 when 0.
	Views int
	// View is how long each view lasts; 60 s when 0.
	View time.Duration
	// Rounds is how often every server is started anew and watched; 1 when 0.
	Rounds int
	// Settle is how long a stream runs before it is watched; 15 s when 0, so that playlists are as long as they get.
	Settle time.Duration
	// CPUSlowdown makes the page's threads so many times slower; none when 0 or 1.
	CPUSlowdown float64
	// RequestDelay is added to each of the page's requests; none when 0.
	RequestDelay time.Duration
	// Logs is a folder for hls.js's log of every view that stalled, or of every one with AllLogs; none when empty.
	Logs    string
	AllLogs bool
	// Servers in the order of the first round. Required.
	Servers []Starter
	// Logger is told how far it is; discards when nil.
	Logger *slog.Logger
}

//go:embed player.html
var playerHTML []byte

//go:embed player.js
var playerJS []byte

const (
	maxViews   = 10_000
	viewStream = "watched"
	// viewGrace is what a view may take beyond its length.
	viewGrace = 30 * time.Second
)

func (s *PlayerSettings) defaults() error {
	set(&s.Views, 3)
	set(&s.View, time.Minute)
	set(&s.Rounds, 1)
	set(&s.Settle, 15*time.Second)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(s.HLSJS) == 0:
		return errors.New("no hls.js to play with")
	case len(s.Servers) == 0:
		return errors.New("no server to watch")
	case s.Views < 1 || s.Views > maxViews || s.Rounds < 1:
		return fmt.Errorf("%d views in each of %d rounds: choose 1 to %d views and at least one round", s.Views, s.Rounds, maxViews)
	case s.View < 5*time.Second || s.View > time.Hour:
		return fmt.Errorf("views of %s: choose 5 s to 1 h", s.View)
	case s.CPUSlowdown != 0 && (s.CPUSlowdown < 1 || s.CPUSlowdown > 20):
		return fmt.Errorf("a CPU slowed down %v times: choose 1 to 20", s.CPUSlowdown)
	case s.RequestDelay < 0 || s.RequestDelay > time.Second:
		return fmt.Errorf("requests delayed by %s: choose 0 to 1 s", s.RequestDelay)
	}
	if s.Browser == "" {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if p, err := exec.LookPath(name); err == nil {
				s.Browser = p
				break
			}
		}
	}
	if s.Browser == "" {
		return errors.New("no Chromium is installed: install it (apt-get install chromium), or give its path")
	}
	return nil
}

// RunPlayer measures. A report of the views before an error comes with it.
func RunPlayer(ctx context.Context, s PlayerSettings) (*PlayerReport, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	rep := &PlayerReport{
		Bench: "player", Began: time.Now().UTC().Truncate(time.Second), Machine: machine(), ViewSeconds: s.View.Seconds(),
		CPUSlowdown: max(1, s.CPUSlowdown), RequestDelayMs: s.RequestDelay.Milliseconds(), Views: []View{},
	}
	defer rep.sumUp(s.Servers)
	chromium, stop, err := browser.Start(ctx, s.Browser)
	if err != nil {
		return rep, err
	}
	defer stop()
	page, err := servePage(ctx, s.HLSJS)
	if err != nil {
		return rep, err
	}
	for round := range s.Rounds {
		for i := range s.Servers {
			server := s.Servers[i]
			if round%2 == 1 {
				server = s.Servers[len(s.Servers)-1-i]
			}
			if err := s.watchServer(ctx, chromium, page, server, round+1, rep); err != nil {
				return rep, fmt.Errorf("round %d, %s: %w", round+1, server.Name, err)
			}
		}
	}
	return rep, nil
}

// watchServer starts a server, publishes the test card to it and watches it one view after the other.
func (s *PlayerSettings) watchServer(ctx, chromium context.Context, page string, starter Starter, round int, rep *PlayerReport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := starter.Start(ctx)
	if err != nil {
		return err
	}
	defer srv.Stop()
	pushing := make(chan error, 1)
	pushCtx, stopPushing := context.WithCancel(ctx)
	card := &publisher.Publisher{URL: srv.PublishURL(viewStream), Logger: s.Logger}
	go func() { pushing <- card.Run(pushCtx) }()
	defer func() { stopPushing(); <-pushing }()
	if err := waitPlayable(ctx, srv); err != nil {
		return err
	}
	select {
	case <-time.After(s.Settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	for n := range s.Views {
		v, err := s.view(chromium, page+"?"+url.Values{"url": {srv.PlayURL(viewStream)}}.Encode())
		if err != nil {
			return fmt.Errorf("view %d: %w; the server says: %s", n+1, err, srv.Output())
		}
		v.Server, v.Version, v.Round = starter.Name, srv.Version(), round
		s.Logger.Info("watched", "server", v.Server, "view", n+1, "first_frame_ms", deref(v.FirstFrameMs), "latency_ms", v.LatencyMs, "stalls", len(v.Stalls), "stall_ms", v.StallMs)
		if err := s.keepLog(v, len(rep.Views)); err != nil {
			return err
		}
		rep.Views = append(rep.Views, *v)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// keepLog writes hls.js's log of a view.
func (s *PlayerSettings) keepLog(v *View, n int) error {
	if s.Logs == "" || !s.AllLogs && len(v.Stalls) == 0 && v.FirstFrameMs != nil {
		return nil
	}
	if err := os.MkdirAll(s.Logs, 0o755); err != nil {
		return fmt.Errorf("folder for logs: %w", err)
	}
	file := filepath.Join(s.Logs, fmt.Sprintf("%s-%03d.log", v.Server, n))
	if err := os.WriteFile(file, []byte(strings.Join(v.log, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("keep the log of a view: %w", err)
	}
	return nil
}

func waitPlayable(ctx context.Context, srv Server) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client := newClient()
	defer client.CloseIdleConnections()
	for {
		err := probe(ctx, client, srv.PlayURL(viewStream))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the stream cannot be played: %w; the server says: %s", err, srv.Output())
		case <-srv.Done():
			return fmt.Errorf("the server ended: %s", srv.Output())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// servePage serves the bare page until ctx ends and gives its address.
func servePage(ctx context.Context, hlsJS []byte) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the page: %w", err)
	}
	mux := http.NewServeMux()
	for path, f := range map[string]struct {
		mime string
		body []byte
	}{
		"/{$}":         {"text/html; charset=utf-8", playerHTML},
		"/player.js":   {"text/javascript; charset=utf-8", playerJS},
		"/testcard.js": {"text/javascript; charset=utf-8", []byte(testcard.DecoderJS())},
		"/hls.js":      {"text/javascript; charset=utf-8", hlsJS},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.mime)
			_, _ = w.Write(f.body) // the browser may be gone
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + l.Addr().String() + "/", nil
}

// view opens the page in a tab of its own and reads what it wrote down.
func (s *PlayerSettings) view(chromium context.Context, page string) (*View, error) {
	tab, closeTab := chromedp.NewContext(chromium)
	defer closeTab()
	tab, cancel := context.WithTimeout(tab, s.View+viewGrace)
	defer cancel()
	if s.Logs != "" {
		page += "&log"
	}
	var actions []chromedp.Action
	if s.CPUSlowdown > 1 {
		actions = append(actions, emulation.SetCPUThrottlingRate(s.CPUSlowdown))
	}
	if s.RequestDelay > 0 {
		actions = append(actions, network.Enable(), network.EmulateNetworkConditions(false, float64(s.RequestDelay.Milliseconds()), -1, -1))
	}
	var raw rawView
	actions = append(actions, chromedp.Navigate(page), chromedp.Sleep(s.View), chromedp.Evaluate("window.view", &raw))
	if err := chromedp.Run(tab, actions...); err != nil {
		return nil, fmt.Errorf("watch in Chromium: %w", err)
	}
	return raw.sumUp(), nil
}

// WithHoldBack puts a proxy before a peer that rewrites its PART-HOLD-BACK, seconds: with MediaMTX's own, of two
// and a half parts, hls.js stalls.
func (s Starter) WithHoldBack(seconds float64) Starter {
	start := s.Start
	s.Start = func(ctx context.Context) (Server, error) {
		srv, err := start(ctx)
		if err != nil {
			return nil, err
		}
		play, err := url.Parse(srv.PlayURL(viewStream))
		if err != nil {
			srv.Stop()
			return nil, err
		}
		base, err := peers.HoldBack{Upstream: play.Scheme + "://" + play.Host, Seconds: seconds}.Start(ctx)
		if err != nil {
			srv.Stop()
			return nil, err
		}
		return heldBack{srv, base}, nil
	}
	return s
}

type heldBack struct {
	Server
	base string
}

func (h heldBack) PlayURL(stream string) string {
	u, err := url.Parse(h.Server.PlayURL(stream))
	if err != nil {
		return h.Server.PlayURL(stream)
	}
	return h.base + u.Path
}
