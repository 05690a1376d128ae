package peers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// HoldBack is a proxy in front of a peer that rewrites one thing: PART-HOLD-BACK in its media playlists, the
// distance from the live edge the server asks low-latency players to keep (RFC 8216bis, 4.4.3.8). MediaMTX asks
// for 2.5 parts, on which hls.js stalls; with a fairer value both servers are compared at their best.
type HoldBack struct {
	// Upstream is the peer's HTTP base, as Server.HTTPBase gives it.
	Upstream string
	// Seconds is the value to write.
	Seconds float64
}

const (
	maxPlaylistBytes = 4 << 20
	// playlistTimeout bounds a blocking playlist request, which waits at most a few target durations.
	playlistTimeout = time.Minute
)

// Start listens on a free loopback port until ctx ends and returns the proxy's HTTP base.
func (h HoldBack) Start(ctx context.Context) (base string, err error) {
	handler, err := h.handler()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the hold-back proxy: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: playlistTimeout}
	go func() { _ = server.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (h HoldBack) handler() (http.Handler, error) {
	upstream, err := url.Parse(h.Upstream)
	if err != nil || upstream.Host == "" {
		return nil, fmt.Errorf("hold-back proxy: upstream %q is not an http URL", h.Upstream)
	}
	if !(h.Seconds > 0) {
		return nil, fmt.Errorf("hold-back proxy: %v s is not a hold-back: give seconds above 0", h.Seconds)
	}
	attribute := regexp.MustCompile(`PART-HOLD-BACK=[0-9.]+`)
	value := "PART-HOLD-BACK=" + strconv.FormatFloat(h.Seconds, 'f', -1, 64)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			if strings.HasSuffix(r.In.URL.Path, ".m3u8") {
				r.Out.Header.Del("Accept-Encoding") // a compressed playlist could not be rewritten
			}
		},
		ModifyResponse: func(res *http.Response) error {
			if !strings.HasSuffix(res.Request.URL.Path, ".m3u8") || res.StatusCode != http.StatusOK {
				return nil
			}
			body, err := io.ReadAll(io.LimitReader(res.Body, maxPlaylistBytes))
			res.Body.Close()
			if err != nil {
				return fmt.Errorf("read playlist: %w", err)
			}
			body = attribute.ReplaceAll(body, []byte(value))
			res.Body = io.NopCloser(bytes.NewReader(body))
			res.ContentLength = int64(len(body))
			res.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	}, nil
}
