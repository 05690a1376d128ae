package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// hook asks an application's own service whether a publisher is admitted.
type hook struct {
	client  *http.Client
	timeout time.Duration
}

// question is what the hook is asked, as JSON.
type question struct {
	App      string `json:"app"`
	Stream   string `json:"stream"`
	Protocol string `json:"protocol"`
	Peer     string `json:"peer"`
	// CDN is what the publisher says it came through.
	CDN string `json:"cdn,omitempty"`
	// Key are the claims of the publish key, whose signature was right; absent where none was needed.
	Key *token.Publish `json:"key,omitempty"`
}

// Limits of the hook's answer, bytes.
const (
	maxHookAnswer = 16 << 10
	maxHookReason = 200
)

// hookPause is the time before the second try.
const hookPause = 200 * time.Millisecond

func newHook(timeout time.Duration) *hook {
	return &hook{timeout: timeout, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 32, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 32 << 10},
		// A redirect is an answer that says neither yes nor no.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ask gives the CDN that the hook names, if any, or why the publisher is refused.
// A server error and no answer are tried once more. Reasons do not repeat the URL, which may hold a secret.
func (h *hook) ask(ctx context.Context, url string, q question) (cdn string, why *Refused) {
	body, err := json.Marshal(&q)
	if err != nil {
		return "", Refuse("hook", fmt.Sprintf("the publish hook could not be asked: %v", err))
	}
	for try := 1; ; try++ {
		status, kind, answer, err := h.post(ctx, url, body)
		switch {
		case err == nil && status/100 == 2:
			return admitted(kind, answer)
		case err == nil && status/100 == 4:
			return "", Refuse("hook", refusal(status, answer))
		case err == nil:
			err = fmt.Errorf("it answered %d", status)
		}
		if try == 2 || ctx.Err() != nil {
			return "", Refuse("hook", fmt.Sprintf("the application's publish hook could not decide, so nobody is admitted: %v: try again later", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(hookPause):
		}
	}
}

func (h *hook) post(ctx context.Context, to string, body []byte) (status int, kind string, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, errors.New("its URL is malformed")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "spillway-ingest")
	res, err := h.client.Do(req)
	if err == nil {
		defer res.Body.Close()
		answer, err = io.ReadAll(io.LimitReader(res.Body, maxHookAnswer+1))
		if err == nil && len(answer) > maxHookAnswer {
			err = fmt.Errorf("its answer is over %d bytes", maxHookAnswer)
		}
	}
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", h.timeout)
		}
		return 0, "", nil, err
	}
	return res.StatusCode, res.Header.Get("Content-Type"), answer, nil
}

// admitted reads what a hook that admits may say more.
func admitted(kind string, answer []byte) (cdn string, why *Refused) {
	if t, _, err := mime.ParseMediaType(kind); err != nil || t != "application/json" || len(bytes.TrimSpace(answer)) == 0 {
		return "", nil
	}
	var a struct {
		CDN string `json:"cdn"`
	}
	err := json.Unmarshal(answer, &a)
	if err == nil && a.CDN != "" {
		err = schemas.CheckName("CDN name", a.CDN)
	}
	if err != nil {
		return "", Refuse("hook", fmt.Sprintf("the application's publish hook admits, but its answer is wrong: %.200v", err))
	}
	return a.CDN, nil
}

// refusal is the hook's own reason, bounded and in one line.
func refusal(status int, answer []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(answer[:min(len(answer), 4*maxHookReason)]), "")), " ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) > maxHookReason {
		s = strings.ToValidUTF8(s[:maxHookReason], "")
	}
	if s == "" {
		return fmt.Sprintf("the application's publish hook refused (%d)", status)
	}
	return s
}
