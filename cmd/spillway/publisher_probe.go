package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"text/tabwriter"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/publishprobe"
)

// publisherProbeCommand measures ways to publish and chooses one, as a publisher's app does.
func (c *commands) publisherProbeCommand() *ffcli.Command {
	var data, router, ca string
	var most int
	var quiet, asJSON bool
	return c.command("publisher probe", "APP/STREAM", "measure the ways to publish a stream, over UDP and TCP, tell the router, and say which to take", 1, func(fs *flag.FlagSet) {
		fs.StringVar(&data, "data", "", "`directory` of the running \"spillway up\"")
		fs.StringVar(&router, "router", "", "base `URL` of a router (default: that of the running \"spillway up\")")
		fs.StringVar(&ca, "tls-ca", "", "PEM `file` of authorities for RTMPS and HTTPS beside the system's (default: the certificate of the running \"spillway up\")")
		fs.IntVar(&most, "candidates", 5, "measure so many CDNs at most, the best first")
		fs.BoolVar(&quiet, "no-report", false, "do not tell the router what was measured")
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}, func(ctx ctx, a []string) error {
		k, err := parseKey(a[0])
		if err != nil {
			return err
		}
		if most < 1 || most > schemas.MaxProbeResults {
			return fmt.Errorf("--candidates %d: give 1 to %d", most, schemas.MaxProbeResults)
		}
		if router == "" {
			run, err := findRun(data)
			if err != nil {
				return fmt.Errorf("%w: give --router", err)
			}
			router = run.Router
			if ca == "" {
				ca = run.PushRTMPSCert
			}
		}
		p, err := prober(ca)
		if err != nil {
			return err
		}
		m, err := p.Run(ctx, router, k, most, quiet)
		if m == nil {
			return fmt.Errorf("ask %s where to publish: %w", router, err)
		}
		if err != nil {
			fmt.Fprintf(c.stderr, "spillway: %v: what was measured here decides\n", err)
		}
		if asJSON {
			if err := c.printJSON(m); err != nil || m.URL != "" {
				return err
			}
			return publishprobe.ErrUnreached
		}
		return c.printWays(m)
	})
}

// prober trusts the system's authorities and those of a file.
func prober(ca string) (*publishprobe.Prober, error) {
	if ca == "" {
		return &publishprobe.Prober{}, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if pool, err = addAuthorities(pool, ca); err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return &publishprobe.Prober{TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}, nil
}

// printWays prints what was measured, and the choice.
func (c *commands) printWays(m *publishprobe.Measured) error {
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CDN\tTRANSPORT\tOVER\tRTT MS\tTOTAL MS\tRESULT")
	for _, r := range m.Rows {
		rtt, total, result := fmt.Sprintf("%.1f", r.RTTMs), fmt.Sprintf("%.1f", r.TotalMs), "answers"
		if r.Skipped {
			rtt, total, result = "-", "-", "not measured: the router names no probe"
		} else if r.Error != "" {
			rtt, total, result = "-", "-", r.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.CDN, r.Transport, r.Over, rtt, total, result)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if m.URL == "" {
		return publishprobe.ErrUnreached
	}
	_, err := fmt.Fprintf(c.stdout, "publish to %s by %s: %s\n", m.CDN, m.Transport, m.URL)
	return err
}
