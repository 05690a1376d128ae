package router

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/dash"
	"github.com/spillway-live/spillway/workers/hls"
)

// rankHolds is how long the order of an answer's candidates is worth keeping,
// seconds: then a page asks again before it starts.
const rankHolds = 60

// candidatesTold is how many candidates an answer has where the request does not say: enough
// to choose from, and the answer fits into what a server may send before it hears from the
// client (ten segments, RFC 6928), with their four addresses each.
const candidatesTold = 5

// candidatesWanted reads how many candidates a client wants (?candidates=).
func candidatesWanted(v query) (int, error) {
	s := v.Get("candidates")
	if s == "" {
		return candidatesTold, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, refuse(http.StatusBadRequest, "candidates is %.20q: it must be a number from 1 on, or be left out for %d", s, candidatesTold)
	}
	return n, nil
}

func (r *Router) dispatch(w http.ResponseWriter, q *http.Request, v query) error {
	now := r.now()
	k := schemas.StreamKey{App: v.Get("app"), Stream: v.Get("stream")}
	in, err := r.request(q, v, k)
	if err != nil {
		return err
	}
	most, err := candidatesWanted(v)
	if err != nil {
		return err
	}
	if v.Get("publish") == "1" {
		return r.dispatchPublish(w, in, now)
	}
	if k.Stream == "" && v.Get("neighbours") != "" {
		// Only what may be watched next: nobody watches yet.
		if err := schemas.CheckName("application name", k.App); err != nil {
			return refuse(http.StatusBadRequest, "%v", err)
		}
		return (&playAnswer{head: schemas.Dispatch{App: k.App}, neighbours: r.neighbours(in, v, nil, most, now)}).write(w)
	}
	o, state, err := r.begin(q.Context(), in, now)
	if err != nil {
		return err
	}
	r.record(schemas.DecisionDispatch, o, "", now)
	r.expose(&o.claims, o.arms, now)
	a := r.playAnswer(o, state, v, most, now)
	a.neighbours = r.neighbours(in, v, o.params, most, now)
	return a.write(w)
}

// neighbours answers ahead of time. A neighbour's session starts when its
// playlist is asked for: until then it is no decision, no exposure and no load.
// params are those of the session that asks, which may want fewer.
func (r *Router) neighbours(in request, v query, params map[string]string, candidates int, now time.Time) []playAnswer {
	if v.Get("neighbours") == "" {
		return nil
	}
	var out []playAnswer
	k := in.k
	names := strings.Split(v.Get("neighbours"), ",")
	most := maxNeighbours
	if _, set := params[schemas.ParamPreloadNeighbours]; set {
		most = int(schemas.NumberParam(params, schemas.ParamPreloadNeighbours))
	}
	for _, name := range names[:min(len(names), most)] {
		near := schemas.StreamKey{App: k.App, Stream: name}
		if name == "" || near == k {
			continue
		}
		in.k = near
		// One that is gone or private is no reason to refuse the one that is asked
		// for, and none is woken: it is not watched yet.
		g, err := r.admit(&in, now)
		if err != nil {
			continue
		}
		state, err := r.live(g.Key, now)
		if err != nil {
			continue
		}
		o, err := r.open(in, g, state, now)
		if err != nil || !r.free(o, now) {
			continue // who only might watch takes no place, nor one in the queue
		}
		out = append(out, r.playAnswer(o, state, v, candidates, now))
	}
	return out
}

// manifestFormat is a way to play a stream.
type manifestFormat struct{ name, file string }

// formats are the ways in which a stream plays, the quickest first.
func (r *Router) formats(s *schemas.StreamState) []manifestFormat {
	out := []manifestFormat{{schemas.TransportLLHLS, hls.MultivariantName}}
	if len(r.s.Origins) > 0 {
		out = append(out, manifestFormat{schemas.TransportDASH, dash.ManifestName})
	}
	if playsAsTS(s) {
		out = append(out, manifestFormat{schemas.TransportTS, hls.TSName})
	}
	return out
}

// playsAsTS says whether origins write a stream as MPEG-TS: H.264 and AAC, in the clear.
func playsAsTS(s *schemas.StreamState) bool {
	if s.Epoch.Encrypted != "" {
		return false
	}
	for _, t := range s.Epoch.Tracks {
		if !strings.HasPrefix(t.Codec, "avc1") && !strings.HasPrefix(t.Codec, "mp4a") {
			return false
		}
	}
	return true
}
