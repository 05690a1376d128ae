package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spillway-live/spillway/ingest/collect"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// collectorPath is where players post CMCD events, behind the collector's base URL.
const collectorPath = "/v1/cmcd"

// startAnalytics brings ClickHouse up, migrates it, and starts sessioniser and loader.
func (s *system) startAnalytics(ctx ctx) error {
	admin, writer, reader := s.f.clickhouse, s.f.clickhouse, s.f.clickhouse
	if s.f.clickhouse == "" {
		tcp, err := s.f.chTCP.choose("ClickHouse", s.logger)
		if err != nil {
			return err
		}
		http, err := s.f.chHTTP.choose("ClickHouse (HTTP)", s.logger)
		if err != nil {
			return err
		}
		srv, err := clickhouse.Start(ctx, clickhouse.Options{
			DataDir: filepath.Join(s.d.dataDir, "clickhouse"), TCPPort: number(tcp), HTTPPort: number(http),
			Logger: s.d.log("clickhouse"), Progress: s.c.stderr,
		})
		if err != nil {
			return err
		}
		s.ch = srv
		s.g.start("clickhouse", func(ctx context.Context) error { return superviseClickHouse(ctx, s, srv) })
		admin, writer = srv.NativeURL(clickhouse.Admin), srv.NativeURL(clickhouse.Writer)
		s.run.ClickHouse = srv.AnalystURL()
		reader = srv.NativeURL(clickhouse.Analyst)
	} else {
		s.run.ClickHouse = redactURL(s.f.clickhouse)
	}
	s.run.ClickHouseNative = writer
	if err := migrate(ctx, admin, s.f.cluster, s.d.log("migrate")); err != nil {
		return err
	}
	if s.f.runs("loader") {
		r, err := s.d.loaderRole(writer)
		if err != nil {
			return err
		}
		s.add(r)
		if r, err = s.d.eraserRole(ctx, admin, s.f.cluster); err != nil {
			return err
		}
		s.add(r)
	}
	if s.f.runs("experimenter") {
		r, err := s.d.experimenterRole(reader)
		if err != nil {
			return err
		}
		s.add(r)
	}
	if s.f.runs("sessioniser") {
		s.add(s.d.sessioniserRole(0))
	}
	if s.f.runs("usage") && s.region != nil && s.region.ParentCDNs {
		s.logger.Info("what CDNs delivered is counted in the parent region; role usage does not run here")
	} else if s.f.runs("usage") {
		s.add(s.d.usageRole())
	}
	return nil
}

// superviseClickHouse restarts the child when it dies, on the same ports and
// data, so that the loader only sees a pause.
func superviseClickHouse(ctx context.Context, s *system, srv *clickhouse.Server) error {
	for {
		select {
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			return srv.Stop(stop)
		case <-srv.Done():
		}
		s.logger.Error("ClickHouse ended; starting it again", "err", srv.Err())
		for delay := 200 * time.Millisecond; ; delay = min(2*delay, 10*time.Second) {
			next, err := srv.Restart(ctx)
			if err == nil {
				srv = next
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			s.logger.Error("ClickHouse does not start", "err", err, "next_try_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func (d *deps) collectorRole(addr string) (role, string, error) {
	l, err := listen("collector", addr)
	if err != nil {
		return role{}, "", err
	}
	c, err := collect.New(collect.Settings{
		JS: d.js, Listener: l, SpoolDir: filepath.Join(d.dataDir, "spool"), Tokens: d.signer, Places: d.geo,
		EdgeKey: d.secrets.EdgeKey, Logger: d.log("collector"), Registerer: d.reg, Now: d.now,
	})
	if err != nil {
		l.Close()
		return role{}, "", err
	}
	return role{"collector", c.Run}, httpURL(l.Addr()), nil
}

func (s *system) startCollector(ctx) error {
	addr, err := s.f.collector.choose("collector", s.logger)
	if err != nil {
		return err
	}
	r, u, err := s.d.collectorRole(addr)
	if err != nil {
		return err
	}
	s.run.Collector = u + collectorPath
	s.add(r)
	return nil
}
