package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// errAnew: the connection is to be made anew soon, because the stream is another one now; that is no failure.
var errAnew = errors.New("the stream began anew")

// connectAndSend sends from the next key frame on, until the target fails, the
// stream ends or becomes another, or ctx ends. secrets are to be kept out of the error.
func (j *job) connectAndSend(ctx context.Context, msgs <-chan *nats.Msg) (secrets []string, err error) {
	t, ok := j.p.targets.Get(j.target)
	if !ok {
		return nil, errors.New("the target was removed")
	}
	addr, err := t.Address(j.key)
	if err != nil {
		return nil, err
	}
	secrets = secretsOf(addr)
	j.phase(schemas.PushWaiting, "")
	if err := j.media(ctx, msgs); err != nil {
		return secrets, err
	}
	j.phase(schemas.PushConnecting, "")
	conn, err := connect(ctx, addr, j.p.ConnectTimeout, j.p.WriteTimeout, j.p.TLS)
	if err != nil {
		return secrets, err
	}
	defer context.AfterFunc(ctx, conn.Close)()
	// The target speaks rarely (acknowledgements, pings, which Read answers); when it closes, the write fails.
	var said error
	var reading sync.WaitGroup
	reading.Go(func() {
		for said == nil {
			_, said = conn.Read()
		}
		conn.Close()
	})
	err = j.send(ctx, msgs, conn, t)
	conn.Close()
	reading.Wait()
	if said != nil && !errors.Is(said, net.ErrClosed) && !errors.Is(err, errAnew) {
		err = fmt.Errorf("the target ended the connection: %w", said)
	}
	return secrets, err
}

// media waits until the stream has some; what is queued is old.
func (j *job) media(ctx context.Context, msgs <-chan *nats.Msg) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-msgs:
			if m.Header.Get(schemas.HeaderKind) == schemas.KindChunk {
				j.skip(m)
				return nil
			}
		}
	}
}

// clientURL gives the library's form of a publish URL: everything up to the last slash names the application,
// the rest, with the query, is the stream key after a hash. That is how ffmpeg and OBS split it, too.
func clientURL(u *url.URL) *url.URL {
	out := *u
	cut := strings.LastIndexByte(u.Path, '/')
	out.Path, out.Fragment = u.Path[:cut], u.Path[cut+1:]
	out.RawPath, out.RawFragment = "", ""
	if u.RawQuery != "" {
		out.Fragment += "?" + u.RawQuery
		out.RawQuery = ""
	}
	return &out
}

// secretsOf are the parts of an address that must not be shown: key, query, password.
func secretsOf(u *url.URL) []string {
	out := []string{u.String(), clientURL(u).String(), clientURL(u).Fragment, u.RawQuery, u.Path[strings.LastIndexByte(u.Path, '/')+1:]}
	if p, ok := u.User.Password(); ok {
		out = append(out, p)
	}
	return out
}
