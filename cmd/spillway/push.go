package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/push"
)

type pushRegistry = registry.Registry[schemas.PushTarget]

// pushKind are the targets that streams are pushed to; keys are not shown.
var pushKind = kind[schemas.PushTarget]{
	what: "push target", bucket: schemas.BucketPushes, parse: schemas.ParsePushTarget,
	key:  func(s string) (string, error) { return s, schemas.CheckName("target name", s) },
	hide: hidePushKey,
}

func hidePushKey(t *schemas.PushTarget) { t.URL = t.ShownURL() }

// shownPush is a target with what its pushes do, as it is printed.
type shownPush struct {
	schemas.PushTarget
	Pushes []*schemas.PushState `json:"pushes"`
}

// pushCommand reads and changes the targets that streams are pushed to.
func (c *commands) pushCommand() *ffcli.Command {
	var b base
	var asJSON bool
	show := func(ctx ctx, name string) error {
		return pushKind.with(ctx, &b, func(r *pushRegistry) error { return c.showPushes(ctx, &b, r, name, asJSON) })
	}
	withJSON := func(fs *flag.FlagSet) {
		b.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}
	return c.parent("push", "targets that streams are pushed to (RTMP, RTMPS)",
		c.command("push list", "", "list targets and what their pushes do, without keys", 0, withJSON, func(ctx ctx, _ []string) error { return show(ctx, "") }),
		c.command("push show", "NAME", "show one of them", 1, withJSON, func(ctx ctx, a []string) error { return show(ctx, a[0]) }),
		c.pushAdd(&b),
		pushKind.remove(c, &b, "push remove", "NAME", "push there no more"),
	)
}

func (c *commands) pushAdd(b *base) *ffcli.Command {
	var stream, urlFile string
	var t schemas.PushTarget
	return c.command("push add", "NAME", "add a target, or replace it", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&stream, "stream", "", "`APP/STREAM` that is pushed, or APP for every stream of it")
		fs.StringVar(&t.URL, "url", "", "`URL` rtmp://HOST[:PORT]/APPLICATION/KEY, or rtmps://; {stream} stands for the stream's name")
		fs.StringVar(&urlFile, "url-file", "", "`file` with the URL, so that its key is in no list of processes (- is standard input)")
		fs.BoolVar(&t.Disabled, "disabled", false, "keep it without pushing there")
	}, func(ctx ctx, a []string) error {
		if (t.URL == "") == (urlFile == "") {
			return errors.New("give --url or --url-file")
		}
		if urlFile != "" {
			data, err := c.readFile("push URL", urlFile)
			if err != nil {
				return err
			}
			t.URL = strings.TrimSpace(string(data))
		}
		t.App, t.Stream, _ = cutSlash(stream)
		if err := t.Check(); err != nil {
			return err
		}
		name, err := pushKind.key(a[0])
		if err != nil {
			return err
		}
		return pushKind.with(ctx, b, func(r *pushRegistry) error {
			_, err := r.Edit(ctx, name, func(d *schemas.PushTarget, _ bool) error { *d = t; return nil })
			return err
		})
	})
}

// pushStates are what pushes do now, by target.
func pushStates(ctx ctx, b *base) (out map[string][]*schemas.PushState, err error) {
	err = b.withBucket(ctx, schemas.BucketPushStates, func(kv jetstream.KeyValue) error {
		out, err = schemas.PushStates(ctx, kv)
		return err
	})
	return out, err
}

func (c *commands) showPushes(ctx ctx, b *base, r *pushRegistry, only string, asJSON bool) error {
	l, err := r.List(ctx)
	if err != nil {
		return err
	}
	if only != "" {
		if _, err := pushKind.get(ctx, r, only); err != nil {
			return err
		}
	}
	states, err := pushStates(ctx, b)
	if err != nil {
		return err
	}
	all := map[string]shownPush{}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTREAM\tTO\tSTATE\tSINCE\tSENT\tDROPPED\tRECONNECTS\tWHY")
	for _, e := range l {
		if only != "" && e.Key != only {
			continue
		}
		if e.Err != nil {
			fmt.Fprintf(w, "%s\t%v\n", e.Key, e.Err)
			continue
		}
		t := *e.Value
		hidePushKey(&t)
		all[e.Key] = shownPush{t, states[e.Key]}
		name := t.App + "/" + t.Stream
		switch {
		case t.Disabled:
			fmt.Fprintf(w, "%s\t%s\t%s\tdisabled\n", e.Key, name, t.URL)
		case len(states[e.Key]) == 0:
			fmt.Fprintf(w, "%s\t%s\t%s\tidle\n", e.Key, name, t.URL)
		}
		for _, s := range states[e.Key] {
			fmt.Fprintf(w, "%s\t%s/%s\t%s\t%s\t%s\t%.1f MB\t%d\t%d\t%s\n", e.Key, s.App, s.Stream, t.URL, s.Phase,
				time.Since(time.UnixMicro(s.SinceUnixUs)).Round(time.Second), float64(s.Bytes)/1e6, s.DroppedFrames, s.Reconnects, s.Reason)
		}
	}
	if asJSON {
		return c.printJSON(all)
	}
	return w.Flush()
}

// registerPushCA adds which certificates of rtmps:// targets are trusted.
func registerPushCA(fs *flag.FlagSet, file *string) {
	fs.StringVar(file, "push-ca", "", "PEM `file` of authorities, or of self-signed certificates, that push targets with rtmps:// may have beside those of the system")
}

// pushRole pushes streams to targets. Certificates are always verified; ca is a file of more authorities, or empty.
func (d *deps) pushRole(ca string) (role, error) {
	p := &push.Pusher{JetStream: d.js, Logger: d.log(push.Role), Registerer: d.reg}
	if ca != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return role{}, fmt.Errorf("read the system's authorities: %w", err)
		}
		if roots, err = addAuthorities(roots, ca); err != nil {
			return role{}, fmt.Errorf("--push-ca: %w", err)
		}
		p.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return role{push.Role, p.Run}, nil
}

func (s *system) startPush(ctx) error {
	r, err := s.d.pushRole(s.f.pushCA)
	if err == nil {
		s.add(r)
	}
	return err
}
