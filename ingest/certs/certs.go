// Package certs gives a TLS listener its certificate from files, and takes the
// new one when the files change: renewing a certificate needs no restart.
//
// It promises that a certificate that cannot be read leaves the last good one in
// place and is logged, and that nothing older than TLS 1.2 is spoken. It does not
// fetch certificates.
package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkEvery is how long the files are believed not to have changed.
const checkEvery = time.Second

// Files is a certificate and its key in PEM files. Safe for concurrent use.
type Files struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	now     *tls.Certificate
	stamp   stamp
	checked time.Time
}

// stamp tells one version of the files from another.
type stamp struct {
	cert, key         time.Time
	certSize, keySize int64
}

// Open reads the files. certFile may hold the chain behind the certificate. logger may be nil.
func Open(certFile, keyFile string, logger *slog.Logger) (*Files, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	f := &Files{cert: certFile, key: keyFile, log: logger}
	var err error
	if f.stamp, err = f.look(); err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	f.checked = time.Now()
	return f, nil
}

// Config is for a listener: the current certificate, TLS 1.2 or newer.
func (f *Files) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current(), nil }}
}

func (f *Files) look() (stamp, error) {
	c, err := os.Stat(f.cert)
	if err != nil {
		return stamp{}, err
	}
	k, err := os.Stat(f.key)
	if err != nil {
		return stamp{}, err
	}
	return stamp{c.ModTime(), k.ModTime(), c.Size(), k.Size()}, nil
}

func (f *Files) load() error {
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w: both must be PEM and belong together", f.cert, f.key, err)
	}
	f.now = &c
	return nil
}

// current gives the certificate, read again if the files have changed.
func (f *Files) current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= checkEvery {
		f.checked = now
		s, err := f.look()
		if err != nil || s == f.stamp {
			return f.now // files that are gone for a moment are being replaced
		}
		if err := f.load(); err != nil {
			// Half of the pair may be new: it is tried again until it fits, told at each change.
			if s.cert != f.stamp.cert || s.key != f.stamp.key {
				f.log.Warn("TLS certificate not taken: the last one holds", "err", err)
			}
			f.stamp.certSize = -1 // looks different until it is taken
			f.stamp.cert, f.stamp.key = s.cert, s.key
			return f.now
		}
		f.stamp = s
		f.log.Info("TLS certificate read again", "cert", f.cert)
	}
	return f.now
}
