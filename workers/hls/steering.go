package hls

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spillway-live/spillway/schemas/jsonout"
)

// Steering is a content-steering list (draft-pantos-content-steering-05; the
// same JSON serves DASH, ETSI TS 103 998).
type Steering struct {
	// TTLSec is how long the player waits before it asks again. It is always
	// written: without it hls.js and dash.js compute a timer of NaN.
	TTLSec int
	// ReloadURI must be absolute or empty: shaka stops steering silently after a relative one.
	ReloadURI string
	// Priority holds pathway ids, best first, without repeats.
	Priority []string
	Clones   []Clone
}

// Clone announces a pathway that is not in the manifest.
type Clone struct {
	BaseID, ID string
	// Host replaces the name of the host in the base pathway's URIs, and nothing
	// else: hls.js, shaka and dash.js keep scheme, port and path. Empty: it stays.
	Host string
	// Params are added to the query. Of the three players only hls.js obeys Params alone.
	Params map[string]string
	// PerVariant and PerRendition are whole URIs by STABLE-VARIANT-ID and
	// STABLE-RENDITION-ID. They come before Host and Params; HLS only, of the three
	// players hls.js only. shaka takes a clone without Host for its base.
	PerVariant, PerRendition map[string]string
}

type wireSteering struct {
	Version  int         `json:"VERSION"`
	TTL      int         `json:"TTL"`
	Reload   string      `json:"RELOAD-URI,omitempty"`
	Priority []string    `json:"PATHWAY-PRIORITY"`
	Clones   []wireClone `json:"PATHWAY-CLONES,omitempty"`
}

type wireClone struct {
	BaseID      string          `json:"BASE-ID"`
	ID          string          `json:"ID"`
	Replacement wireReplacement `json:"URI-REPLACEMENT"`
}

type wireReplacement struct {
	Host         string            `json:"HOST,omitempty"`
	Params       map[string]string `json:"PARAMS,omitempty"`
	PerVariant   map[string]string `json:"PER-VARIANT-URIS,omitempty"`
	PerRendition map[string]string `json:"PER-RENDITION-URIS,omitempty"`
}

// Encode appends the JSON to b. It refuses an empty or repeating priority and a TTL below one second.
func (s *Steering) Encode(b []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if len(s.Clones) == 0 { // nearly always
		return s.append(b), nil
	}
	w := wireSteering{Version: 1, TTL: s.TTLSec, Reload: s.ReloadURI, Priority: s.Priority}
	for _, c := range s.Clones {
		w.Clones = append(w.Clones, wireClone{c.BaseID, c.ID, wireReplacement{c.Host, c.Params, c.PerVariant, c.PerRendition}})
	}
	j, err := json.Marshal(w)
	return append(b, j...), err
}

func (s *Steering) check() error {
	if s.TTLSec < 1 {
		return fmt.Errorf("steering list: TTL of %d s: at least 1 is needed", s.TTLSec)
	}
	if len(s.Priority) == 0 {
		return fmt.Errorf("steering list: no pathway in the priority")
	}
	const few = 64 // are compared with each other as quickly
	var seen map[string]bool
	if len(s.Priority) > few {
		seen = make(map[string]bool, len(s.Priority))
	}
	for i, id := range s.Priority {
		if id == "" || seen[id] || seen == nil && slices.Contains(s.Priority[:i], id) {
			return fmt.Errorf("steering list: pathway %q is empty or repeated", id)
		}
		if seen != nil {
			seen[id] = true
		}
	}
	return nil
}

// append writes a list without clones as encoding/json does.
func (s *Steering) append(b []byte) []byte {
	b = jsonout.Raw(append(b, `{"VERSION":1,"TTL":`...), int64(s.TTLSec))
	b = jsonout.StrIf(b, "RELOAD-URI", s.ReloadURI)
	b = jsonout.Name(b, "PATHWAY-PRIORITY")
	b = jsonout.List(b, s.Priority, func(id *string, b []byte) []byte { return jsonout.String(b, *id) })
	return append(b, '}')
}
