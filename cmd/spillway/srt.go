package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/srt"
)

// passphraseEnv holds SRT's passphrase where it is not in a file.
const passphraseEnv = "SPILLWAY_SRT_PASSPHRASE"

// srtFlags are the settings of publishing over SRT.
type srtFlags struct {
	listen         string // empty or off: none
	passphraseFile string
	latency        time.Duration
}

func (f *srtFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.passphraseFile, "srt-passphrase-file", "", fmt.Sprintf("`file` with the passphrase, %d to %d bytes, that every SRT publisher must have (default: $%s, or none)",
		srt.MinPassphraseBytes, srt.MaxPassphraseBytes, passphraseEnv))
	fs.DurationVar(&f.latency, "srt-latency", 120*time.Millisecond, "least time that lost SRT packets have to be sent again; a publisher may ask for more")
}

// passphrase reads the file, or the environment.
func (f *srtFlags) passphrase() (string, error) {
	if f.passphraseFile == "" {
		return os.Getenv(passphraseEnv), nil
	}
	b, err := os.ReadFile(f.passphraseFile)
	if err != nil {
		return "", fmt.Errorf("--srt-passphrase-file: %w", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("--srt-passphrase-file: %s is empty", f.passphraseFile)
	}
	return p, nil
}

// srtServer is nil where SRT is off.
func (d *deps) srtServer(f *srtFlags, p *publish.Service) (*srt.Server, error) {
	if f.listen == "" || f.listen == "off" {
		return nil, nil
	}
	pass, err := f.passphrase()
	if err != nil {
		return nil, err
	}
	return srt.New(srt.Settings{Listen: f.listen, Publish: p, Passphrase: pass, Latency: f.latency, Logger: d.log("ingest"), Registerer: d.reg})
}
