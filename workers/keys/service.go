package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
)

// maxAnswer is the longest answer of a key service that is read, bytes.
const maxAnswer = 16 << 10

// ask asks a key service for one key: GET <url>?app=..&stream=..&period=N, or
// with kid=<32 hex digits> for the key that an id names. The answer is JSON,
// {"kid":..,"key":..,"iv":..}. Errors do not repeat the address, which may hold
// a password.
func (r *Ring) ask(ctx context.Context, address string, k schemas.StreamKey, name, value string) (cenc.Key, error) {
	u, err := url.Parse(address)
	if err != nil {
		return cenc.Key{}, errors.New("key_url is not a URL")
	}
	q := u.Query()
	q.Set("app", k.App)
	q.Set("stream", k.Stream)
	q.Set(name, value)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return cenc.Key{}, errors.New("key_url is not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.Client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return cenc.Key{}, fmt.Errorf("key service %s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return cenc.Key{}, fmt.Errorf("key service %s answers %s", u.Host, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return cenc.Key{}, fmt.Errorf("key service %s: %w", u.Host, err)
	}
	key, err := parseAnswer(b)
	if err != nil {
		return cenc.Key{}, fmt.Errorf("key service %s: %w", u.Host, err)
	}
	return key, nil
}

func parseAnswer(b []byte) (cenc.Key, error) {
	var j keyJSON
	if len(b) > maxAnswer || json.Unmarshal(b, &j) != nil {
		return cenc.Key{}, errors.New(`its answer is not {"kid":"<32 hex digits>","key":"<32 hex digits>"}`)
	}
	return j.parse()
}
