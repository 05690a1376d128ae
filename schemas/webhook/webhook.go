// Package webhook tells other systems of what happened: HTTP POST of JSON.
//
// It promises: a post that fails is tried three times; redirects are not
// followed; errors never hold the address beyond its host, because the rest of
// it may be a secret. It leaves out remembering what was told: the caller does.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// tries and pause bound how often a webhook that fails is tried; the pause doubles.
const (
	tries = 3
	pause = time.Second
)

// Client is what posts where the caller has none of its own: it waits ten
// seconds and follows no redirects.
func Client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Post sends v as JSON, up to three times. Any answer of 2xx is success.
func Post(ctx context.Context, c *http.Client, address string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(pause << try):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err = once(ctx, c, address, b); err == nil {
			return nil
		}
	}
	return err
}

func once(ctx context.Context, c *http.Client, address string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's address cannot be read")
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	var whole *url.Error
	if errors.As(err, &whole) { // it holds the address
		return fmt.Errorf("%s: %w", req.URL.Host, whole.Err)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // so that the connection can be used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the webhook answered %s", res.Status)
	}
	return nil
}
