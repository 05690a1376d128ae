package router

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/jsonout"
	"github.com/spillway-live/spillway/workers/hls"
)

// playAnswer is a schemas.Dispatch to be written. It has a hundred addresses where
// there are twenty CDNs, each with the session's token in it: they are put together
// where they are written, from what each CDN's have in common.
type playAnswer struct {
	head       schemas.Dispatch // without candidates and neighbours
	folder     string
	formats    []manifestFormat
	candidates []playCandidate
	neighbours []playAnswer
}

// playCandidate is a CDN of an answer.
type playCandidate struct {
	*schemas.Candidate
	// before the session's token in its addresses, where they have it in the path;
	// otherwise base is all that is before the folder.
	before, base string
}

// playAnswer is the answer for a session, with so many of its candidates.
func (r *Router) playAnswer(o *opened, state *schemas.StreamState, v query, candidates int, now time.Time) playAnswer {
	c := &o.claims
	folder := "/" + c.App + "/" + c.Stream + "/"
	steer := ""
	if s := v.Get("steer"); s == "0" || s == "1" {
		steer = "&steer=" + s
	}
	a := playAnswer{folder: folder, formats: r.formats(state), head: schemas.Dispatch{
		SessionID: c.SessionID, Token: o.token, App: c.App, Stream: c.Stream, ContentID: c.App + "/" + c.Stream,
		URL:        r.s.PublicURL + "/v1/play" + folder + hls.MultivariantName + "?s=" + o.token + steer,
		Telemetry:  r.s.Collector + "/v1/cmcd?t=" + o.token,
		Beacon:     r.s.Collector + "/v1/beacon?t=" + o.token,
		Probes:     r.s.PublicURL + "/v1/probes?s=" + o.token,
		InputAgeMs: r.load.AgeMs(now),
		Clock:      r.s.Clock, Arms: c.Arms, Params: o.params, ExpiresUnix: c.ExpiresUnix, FreshSec: rankHolds,
		ClearKey: r.licenceURL(r.t.access.Of(schemas.StreamKey{App: c.App, Stream: c.Stream}, now).Key, o.token),
	}}
	list := r.t.cdns.Get()
	a.candidates = make([]playCandidate, 0, min(o.answer.Eligible, candidates))
	for i := range o.answer.Candidates[:o.answer.Eligible] {
		if len(a.candidates) == candidates {
			break
		}
		x := playCandidate{Candidate: &o.answer.Candidates[i]}
		cdn := list.byName[x.CDN]
		if cdn == nil {
			continue
		}
		if x.before = cdn.before; x.before == "" {
			var ok bool
			if x.base, ok = r.sessionBase(&cdn.CDN, o); !ok {
				continue
			}
		}
		a.candidates = append(a.candidates, x)
	}
	return a
}

// append writes the answer as encoding/json would its schemas.Dispatch.
func (a *playAnswer) append(b []byte) []byte {
	d := &a.head
	// A token is base64url, names of streams are checked: both are plain.
	address := func(name, u string) { b = jsonout.With(jsonout.Name(b, name), u, d.Token) }
	b = jsonout.Open(b, "session_id", d.SessionID)
	address("token", d.Token)
	b = jsonout.Str(b, "app", d.App)
	b = jsonout.Str(b, "stream", d.Stream)
	b = jsonout.Str(b, "content_id", d.ContentID)
	address("url", d.URL)
	address("telemetry", d.Telemetry)
	address("beacon", d.Beacon)
	b = jsonout.Str(b, "clock", d.Clock)
	if d.Probes != "" {
		address("probes", d.Probes)
	}
	b = jsonout.IntIf(b, "expires_unix", d.ExpiresUnix)
	b = jsonout.IntIf(b, "fresh_sec", int64(d.FreshSec))
	if d.ClearKey != "" {
		address("clearkey", d.ClearKey)
	}
	b = jsonout.Int(b, "input_age_ms", d.InputAgeMs)
	b = jsonout.List(jsonout.Name(b, "candidates"), a.candidates, func(c *playCandidate, b []byte) []byte { return a.candidate(c, b) })
	b = jsonout.StrIf(b, "arms", d.Arms)
	if len(d.Params) > 0 {
		b = jsonout.Strings(jsonout.Name(b, "params"), d.Params)
	}
	if len(a.neighbours) > 0 {
		b = jsonout.List(jsonout.Name(b, "neighbours"), a.neighbours, (*playAnswer).append)
	}
	return append(b, '}')
}

func (a *playAnswer) candidate(c *playCandidate, b []byte) []byte {
	first := a.formats[0].file // the multivariant playlist
	b = jsonout.Open(b, "cdn", c.CDN)
	b = a.address(jsonout.Name(b, "url"), c, first)
	b = jsonout.Num(b, "score", c.Score)
	b = jsonout.StrIf(b, "tier", c.Tier)
	b = jsonout.List(jsonout.Name(b, "transports"), a.formats, func(f *manifestFormat, b []byte) []byte {
		b = jsonout.Open(b, "name", f.name)
		b = jsonout.Str(b, "over", schemas.OverTCP)
		return append(a.address(jsonout.Name(b, "url"), c, f.file), '}')
	})
	return append(a.address(jsonout.Name(b, "probe_url"), c, schemas.ProbeName), '}')
}

// address appends that of a file in the stream's folder at a CDN.
func (a *playAnswer) address(b []byte, c *playCandidate, file string) []byte {
	if c.before == "" {
		u := c.base + a.folder + file
		if file != schemas.ProbeName {
			u += "?s=" + a.head.Token // that CDN's own token does not say whose session it is
		}
		return jsonout.String(b, u)
	}
	b = append(append(append(b, '"'), c.before...), a.head.Token...)
	return append(append(append(b, a.folder...), file...), '"')
}

func (a *playAnswer) write(w http.ResponseWriter) error {
	return writeBody(w, typeJSON, func(b []byte) ([]byte, error) { return append(a.append(b), '\n'), nil })
}

const typeJSON = "application/json"

// answers is memory of answers that have been sent.
var answers = sync.Pool{New: func() any { return new([]byte) }}

// writeBody sends what body appends, or gives its error and sends nothing.
func writeBody(w http.ResponseWriter, contentType string, body func([]byte) ([]byte, error)) error {
	b := answers.Get().(*[]byte)
	defer answers.Put(b)
	out, err := body((*b)[:0])
	if err != nil {
		return err
	}
	*b = out
	send(w, contentType, out)
	return nil
}

func send(w http.ResponseWriter, contentType string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the asker may be gone
}
