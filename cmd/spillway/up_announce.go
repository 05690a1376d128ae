package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// announce says where everything is.
func (s *system) announce(ctx) error {
	if s.f.asJSON {
		b, err := json.Marshal(&s.run)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.c.stdout, "%s\n", b)
		return err
	}
	_, err := io.WriteString(s.c.stderr, s.banner())
	return err
}

// banner is the announcement for people.
func (s *system) banner() string {
	var b strings.Builder
	b.WriteString("\nSpillway is up.\n\n")
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-11s%s\n", what, value)
		}
	}
	line("watch", s.run.Watch)
	line("console", s.run.Console)
	if s.run.Push != "" {
		line("push", s.run.Push+"/<stream>   (RTMP, H.264 and AAC)")
	}
	if s.run.PushRTMPS != "" {
		how := "RTMP over TLS"
		if s.run.PushRTMPSCert != "" {
			how += "; certificate: " + s.run.PushRTMPSCert
		}
		line("or", s.run.PushRTMPS+"/<stream>   ("+how+")")
	}
	if s.run.PushSRT != "" {
		line("or", s.run.PushSRT+"/<stream>   (SRT, MPEG-TS)")
	}
	if s.run.PushWHIP != "" {
		line("or", s.run.PushWHIP+"/<stream>   (WHIP, H.264 and Opus)")
	}
	for _, e := range s.edges {
		r := e.Record()
		line("CDN "+r.Name, s.run.HLS[r.Name])
	}
	line("telemetry", s.run.Collector)
	if strings.HasPrefix(s.run.ClickHouse, "http") { // a server of your own is known by its native address
		line("query", "curl '"+s.run.ClickHouse+"' --data 'SELECT * FROM spillway.v_cdn_minute ORDER BY minute DESC LIMIT 9 FORMAT PrettyCompact'")
	}
	line("bus", redactURL(s.run.NATS))
	line("data", s.d.dataDir)
	b.WriteString("\n  spillway cdn fault b --rate 300kbps   makes CDN b bad; spillway cdn heal b ends it\n  Ctrl-C stops everything.\n\n")
	return b.String()
}
