package router

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
	"github.com/spillway-live/spillway/workers/keys"
)

// Limits of a ClearKey licence request.
const (
	maxLicenceRequest = 8 << 10
	maxLicenceKeys    = 32
)

// licenceRequest is W3C Encrypted Media Extensions, 9.1.3; jwk 9.1.4.
type licenceRequest struct {
	KIDs []string `json:"kids"`
	Type string   `json:"type"`
}

type jwk struct {
	Type string `json:"kty"`
	KID  string `json:"kid"`
	Key  string `json:"k"`
}

// clearKey answers a ClearKey licence request of a session: the keys of the
// session's own stream, and of no other. The settings of now say where keys are.
func (r *Router) clearKey(w http.ResponseWriter, q *http.Request, v query) error {
	if r.s.Keys == nil {
		return refuse(http.StatusNotFound, "this router gives no ClearKey licences: it was not started with --clearkey")
	}
	now := r.now()
	c, err := r.session(v.Get("t"), now)
	if err != nil {
		return err
	}
	a, err := r.stillMay(&c, now)
	if err != nil {
		return err
	}
	kids, err := readLicenceRequest(q.Body)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	e := schemas.SettingsOf(a.Key, r.t.apps.Get).Encryption
	if e == nil {
		return refuse(http.StatusNotFound, "stream %s is not encrypted", a.Key)
	}
	answer := struct {
		Keys []jwk  `json:"keys"`
		Type string `json:"type"`
	}{[]jwk{}, "temporary"}
	for _, kid := range kids {
		k, err := r.s.Keys.ByKID(q.Context(), e, a.Key, kid)
		if err != nil {
			r.s.Logger.Warn("no licence", "stream", a.Key.String(), "session", c.SessionID, "err", err)
			continue // the player says which key it misses
		}
		answer.Keys = append(answer.Keys, jwk{"oct", base64.RawURLEncoding.EncodeToString(kid[:]), base64.RawURLEncoding.EncodeToString(k.Key[:])})
	}
	if len(answer.Keys) == 0 {
		return refuse(http.StatusNotFound, "%v of %s for the ids asked for", keys.ErrNoKey, a.Key)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the asker may be gone
	return nil
}

func readLicenceRequest(body io.Reader) ([]cenc.KID, error) {
	b, err := io.ReadAll(io.LimitReader(body, maxLicenceRequest+1))
	if err != nil {
		return nil, errors.New("the licence request could not be read")
	}
	return parseLicenceRequest(b)
}

func parseLicenceRequest(b []byte) ([]cenc.KID, error) {
	var in licenceRequest
	if len(b) > maxLicenceRequest || json.Unmarshal(b, &in) != nil || len(in.KIDs) == 0 || len(in.KIDs) > maxLicenceKeys {
		return nil, errors.New(`a licence request is {"kids":["<base64url>",...],"type":"temporary"} with 1 to 32 ids`)
	}
	if in.Type != "" && in.Type != "temporary" {
		return nil, errors.New("only temporary licences are given")
	}
	out := make([]cenc.KID, 0, len(in.KIDs))
	for _, s := range in.KIDs {
		id, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(id) != 16 {
			return nil, errors.New("a key id is not 16 bytes in base64url without padding")
		}
		out = append(out, cenc.KID(id))
	}
	return out, nil
}

// licenceURL is where a session of an encrypted stream asks for keys; empty: nowhere here.
func (r *Router) licenceURL(k schemas.StreamKey, tok string) string {
	s := r.t.stream(k)
	if r.s.Keys == nil || s == nil || s.Epoch.Encrypted == "" {
		return ""
	}
	return r.s.PublicURL + "/v1/keys/clearkey?t=" + tok
}
