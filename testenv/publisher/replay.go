package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortmplib"

	"github.com/spillway-live/spillway/schemas/nap"
)

// Replay pushes one clip in a loop over many RTMP connections, paced in real time. The clip is turned into
// RTMP's wire form once and shared, so a message costs one timer and one write. Timestamps run on over the
// loops. Its fields must not change once Run has been called.
type Replay struct {
	// File is the clip, H.264 and AAC: FLV (see Clip), or anything ffmpeg can repack without re-encoding.
	File string
	// FFmpeg is the program's name or path, for files other than FLV; "ffmpeg" when empty.
	FFmpeg string
	// URLs are the publish URLs, one connection each: rtmp://host:port/application/stream.
	URLs []string
	// Hosts are the host:port of equal servers. A connection that fails is tried again at another of them, as
	// encoders with a second server do; empty: at the same one. URLs say where each begins.
	Hosts []string
	// OnConnect is told where the connection of URLs[i] publishes now; host is empty when it is lost.
	OnConnect func(i int, host string)
	// Spread delays the start of the connections evenly over this time, so that their key frames do not fall
	// together; 2 s when 0, none when negative.
	Spread time.Duration
	// Logger takes interruptions; slog.Default() when nil.
	Logger *slog.Logger
	// Sent is told when the connection to URLs[i] has taken the last byte of a frame, each
	// connection's in order; nothing when nil.
	Sent func(i int, picture bool, at time.Time)

	connected, interruptions, messages, sentBytes, lagMs atomic.Int64
}

// ReplayStats counts what a Replay did since Run was called.
type ReplayStats struct {
	// Connected is how many connections are publishing now.
	Connected int
	// Interruptions counts connections that failed or were refused.
	Interruptions int64
	// Messages and Bytes count what was handed to the network.
	Messages, Bytes int64
	// MaxLag is the most by which a message was sent late: more than some milliseconds mean that the server,
	// or this machine, does not keep up.
	MaxLag time.Duration
}

// Stats may be called while Run runs.
func (r *Replay) Stats() ReplayStats {
	return ReplayStats{int(r.connected.Load()), r.interruptions.Load(), r.messages.Load(), r.sentBytes.Load(),
		time.Duration(r.lagMs.Load()) * time.Millisecond}
}

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second
	defaultSpread  = 2 * time.Second
)

// Run pushes until ctx ends. Bad settings or files return an error at once. A connection that fails is tried
// again with growing delay, from the clip's start; one that never came to publish makes Run return the last
// reason in the end.
func (r *Replay) Run(ctx context.Context) error {
	logger := r.Logger
	if logger == nil {
		logger = slog.Default()
	}
	targets := make([]*url.URL, len(r.URLs))
	for i, target := range r.URLs {
		u, err := checkURL(target)
		if err != nil {
			return err
		}
		targets[i] = u
	}
	tags, err := loadClip(ctx, orDefault(r.FFmpeg, "ffmpeg"), r.File)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	plan, err := newWirePlan(tags)
	if err != nil {
		return fmt.Errorf("prepare clip %s: %w", r.File, err)
	}
	spread := max(orDefault(r.Spread, defaultSpread), 0)
	failed := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() {
			if nap.For(ctx, spread*time.Duration(i)/time.Duration(len(targets))) == nil {
				failed[i] = r.keepPushing(ctx, plan, i, target, logger)
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// keepPushing returns the last error if the target never accepted the stream, when ctx ends.
func (r *Replay) keepPushing(ctx context.Context, plan *wirePlan, i int, target *url.URL, logger *slog.Logger) error {
	delay := backoffFirst
	accepted := false
	for {
		began := time.Now()
		err := r.push(ctx, plan, i, target, &accepted)
		if ctx.Err() != nil && accepted {
			return nil
		}
		err = fmt.Errorf("push to %s: %w", redact(target), err)
		if ctx.Err() != nil {
			return err
		}
		r.interruptions.Add(1)
		if time.Since(began) > healthyAfter {
			delay = backoffFirst
		}
		logger.Warn("replay was interrupted", "err", err, "retry_in", delay)
		if nap.For(ctx, delay+rand.N(delay/4)) != nil {
			if accepted {
				return nil
			}
			return err
		}
		delay = min(2*delay, backoffMost)
		target = r.elsewhere(target)
	}
}

// elsewhere is the target at another of the hosts, if there is one.
func (r *Replay) elsewhere(target *url.URL) *url.URL {
	var others []string
	for _, h := range r.Hosts {
		if h != target.Host {
			others = append(others, h)
		}
	}
	if len(others) == 0 {
		return target
	}
	u := *target
	u.Host = others[rand.IntN(len(others))]
	return &u
}

func (r *Replay) tell(i int, host string) {
	if r.OnConnect != nil {
		r.OnConnect(i, host)
	}
}

// push publishes over one connection until it fails or ctx ends.
func (r *Replay) push(ctx context.Context, plan *wirePlan, i int, target *url.URL, accepted *bool) error {
	client := &gortmplib.Client{URL: clientURL(target), Publish: true}
	dialCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	err := client.Initialize(dialCtx)
	cancel()
	if err != nil {
		return fmt.Errorf("connect and publish: %w", err)
	}
	defer client.Close()
	defer context.AfterFunc(ctx, client.Close)()
	*accepted = true
	r.connected.Add(1)
	defer r.connected.Add(-1)
	r.tell(i, target.Host)
	defer r.tell(i, "")

	// The server speaks rarely (acknowledgements, pings, which Read answers); when it closes, the write fails.
	// Each message is handed to the connection whole, so that an answer never falls into the middle of one.
	var readErr error
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for readErr == nil {
			_, readErr = client.Read()
		}
		client.Close()
	}()
	err = r.send(ctx, plan, i, client)
	client.Close()
	<-reading
	if readErr != nil && !isClosed(readErr) {
		return fmt.Errorf("server ended the stream: %w", readErr)
	}
	return err
}

func (r *Replay) send(ctx context.Context, plan *wirePlan, i int, client *gortmplib.Client) error {
	conn := client.NetConn()
	write := func(b []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		_, err := conn.Write(b)
		r.messages.Add(1)
		r.sentBytes.Add(int64(len(b)))
		return err
	}
	for _, b := range plan.opening {
		if err := write(b); err != nil {
			return err
		}
	}
	start := time.Now()
	messages := plan.first
	for round := time.Duration(0); ; round++ {
		for _, m := range messages {
			due := start.Add(round*plan.length + m.at)
			if nap.For(ctx, time.Until(due)) != nil {
				return ctx.Err()
			}
			r.noteLag(time.Since(due))
			if err := write(m.wire); err != nil {
				return err
			}
			if r.Sent != nil {
				r.Sent(i, m.picture, time.Now())
			}
		}
		messages = plan.next
	}
}

func (r *Replay) noteLag(lag time.Duration) {
	for {
		most := r.lagMs.Load()
		if lag.Milliseconds() <= most || r.lagMs.CompareAndSwap(most, lag.Milliseconds()) {
			return
		}
	}
}

// clientURL gives the library's form of a publish URL: everything up to the last slash names the application,
// the rest, with the query, is the stream key after a hash. That is how ffmpeg and OBS split it, too.
func clientURL(u *url.URL) *url.URL {
	out := *u
	path := strings.TrimSuffix(u.Path, "/")
	cut := strings.LastIndexByte(path, '/')
	out.Path, out.Fragment = path[:cut], path[cut+1:]
	out.RawPath, out.RawFragment = "", ""
	if u.RawQuery != "" {
		out.Fragment += "?" + u.RawQuery
		out.RawQuery = ""
	}
	return &out
}
