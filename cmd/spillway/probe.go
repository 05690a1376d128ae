package main

import (
	"flag"
	"os"
	"time"

	"github.com/spillway-live/spillway/workers/probe"
)

// probeFlags say how much is probed.
type probeFlags struct {
	rate   float64
	every  time.Duration
	warm   float64
	region string
}

func (f *probeFlags) register(fs *flag.FlagSet) {
	fs.Float64Var(&f.rate, "requests", 4, "requests per `second` of all probers together; a probe is two")
	fs.DurationVar(&f.every, "every", probe.DefaultEvery, "each stream is probed at most this often through each CDN")
	fs.Float64Var(&f.warm, "warm", 50, "requests per `second` at most that warm the caches of CDNs which streams are about to spill to")
	fs.StringVar(&f.region, "region", "", "region that this prober is in, told with its results")
}

// probeRole pulls live streams through every CDN at a low rate.
func (d *deps) probeRole(f probeFlags) role {
	p := &probe.Prober{JetStream: d.js, Signer: d.signer, CDNKeys: d.secrets.cdnKeys(os.Environ()), RequestsPerSec: f.rate, Every: f.every, WarmRequestsPerSec: f.warm,
		Region: f.region, Logger: d.log(probe.Role), Registerer: d.reg}
	return role{probe.Role, p.Run}
}

func (s *system) startProbe(ctx) error {
	s.add(s.d.probeRole(probeFlags{}))
	return nil
}
