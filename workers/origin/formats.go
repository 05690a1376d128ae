package origin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/dash"
	"github.com/spillway-live/spillway/workers/hls"
)

// formatPath reads the paths of the formats beside LL-HLS; p are the path's elements.
func formatPath(p []string, t *target) bool {
	if len(p) == 3 {
		switch p[2] {
		case dash.ManifestName:
			t.kind = "mpd"
		case dash.ClockName:
			t.kind = "clock"
		case hls.TSName:
			t.kind = "ts_multivariant"
		case schemas.ProbeName:
			t.kind = "probe"
		default:
			return false
		}
		return true
	}
	t.rendition, t.track = p[2], schemas.Track(p[3])
	return schemas.CheckName("rendition", t.rendition) == nil && parsePlain(p[4], t)
}

// serveFormat answers what formatPath has read; false for anything else.
func (o *Origin) serveFormat(w http.ResponseWriter, r *http.Request, t target) bool {
	switch t.kind {
	case "mpd":
		o.serveMPD(w, r, t)
	case "ts_multivariant":
		o.serveTSMultivariant(w, r, t)
	case "ts_playlist", "iframes":
		o.servePlainPlaylist(w, r, t)
	case "ts", "iframe":
		o.servePlain(w, r, t)
	case "probe":
		w.Header().Set("Server-Timing", "origin") // who answered: it takes no time
		sendText(w, r, "application/octet-stream", cacheNever, schemas.ProbeBody())
	case "clock":
		sendText(w, r, "text/plain; charset=utf-8", cacheNever, []byte(dash.DateTime(time.Now())))
	default:
		return false
	}
	return true
}

// initBytes gives an init segment, from memory or the bucket inits.
func (o *Origin) initBytes(ctx context.Context, id string) ([]byte, error) {
	if b, ok := o.inits.get(id); ok {
		return b, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	e, err := o.initsKV.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	b := e.Value()
	if schemas.InitID(b) != id {
		o.m.corrupt.Inc()
		o.Logger.Error("init segment is damaged", "init", id)
		return nil, errDamagedInit
	}
	o.inits.put(id, b)
	return b, nil
}

var errDamagedInit = errors.New("the init segment is damaged")

// initInfo gives what an init segment says.
func (o *Origin) initInfo(ctx context.Context, id string) (*cmaf.Init, error) {
	if i, ok := o.initInfos.get(id); ok {
		return i, nil
	}
	b, err := o.initBytes(ctx, id)
	if err != nil {
		return nil, err
	}
	i, err := cmaf.ParseInit(b)
	if err != nil {
		return nil, err
	}
	o.initInfos.put(id, i)
	return i, nil
}

func sendText(w http.ResponseWriter, r *http.Request, contentType, cache string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", cache)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client may be gone
	}
}

// await waits until ok, called with the feed's lock held, is true, or the
// stream has had time enough to begin. It answers the request where it gives false.
func (o *Origin) await(w http.ResponseWriter, r *http.Request, f *feed, limit time.Duration, ok func() (bool, <-chan struct{})) bool {
	hold := newHold(o, r.Context())
	defer hold.end()
	for start := time.Now(); ; {
		f.mu.Lock()
		done, wake := ok()
		f.mu.Unlock()
		left := limit - time.Since(start)
		switch {
		case done:
			return true
		case wake == nil || left <= 0:
			refuse(w, http.StatusNotFound, cacheShort, "the stream has nothing of this format, or not yet")
			return false
		}
		if !hold.wait(wake, left) {
			refuse(w, http.StatusServiceUnavailable, cacheNever, "the origin is stopping")
			return false
		}
	}
}

// unavailable answers an error about an init segment.
func (o *Origin) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		refuse(w, http.StatusNotFound, cacheShort, "an init segment is gone")
		return
	}
	o.fail(w, r, err)
}
