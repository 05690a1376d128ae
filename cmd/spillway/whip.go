package main

import (
	"crypto/tls"
	"flag"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/whip"
)

// whipFlags are the settings of publishing by WebRTC.
type whipFlags struct {
	listen    string // empty or off: none
	udp, tcp  string
	publicIPs string
}

func (f *whipFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.tcp, "whip-tcp", "", "`HOST:PORT` for media of WebRTC publishers whose UDP is blocked (default: none)")
	fs.StringVar(&f.publicIPs, "whip-public-ip", "", "`addresses`, comma-separated, where WebRTC publishers reach --whip-udp and --whip-tcp (default: those listened on)")
}

// whipServer is nil where WHIP is off.
func (d *deps) whipServer(f *whipFlags, encryption *tls.Config, p *publish.Service) (*whip.Server, error) {
	if f.listen == "" || f.listen == portOff {
		return nil, nil
	}
	return whip.New(whip.Settings{Listen: f.listen, TLS: encryption, UDP: f.udp, TCP: f.tcp, PublicIPs: splitList(f.publicIPs), Publish: p,
		Logger: d.log("ingest"), Registerer: d.reg})
}
