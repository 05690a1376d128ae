package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
)

// port is an address flag of "spillway up". Left alone it prefers a well-known
// port and takes any free one when that is busy; a port that was asked for is
// never exchanged for another.
type port struct {
	addr   string // host:port
	given  bool
	prefer string
	// udp: it is a UDP port. optional: it may be off.
	udp, optional bool
}

func (p *port) String() string { return p.addr }

// Set implements flag.Value; "0" and ":0" mean any free port on loopback.
func (p *port) Set(s string) error {
	if s == portOff && p.optional {
		p.addr, p.given = s, true
		return nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		s = net.JoinHostPort("127.0.0.1", s)
	}
	host, num, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("give PORT or HOST:PORT: %w", err)
	}
	if _, err := net.LookupPort("tcp", num); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", num)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	p.addr, p.given = net.JoinHostPort(host, num), true
	return nil
}

// portOff is the address of what is not wanted.
const portOff = "off"

// choose gives the address to listen on for what.
func (p *port) choose(what string, logger *slog.Logger) (string, error) {
	addr := p.addr
	if !p.given {
		addr = net.JoinHostPort("127.0.0.1", p.prefer)
	}
	if addr == portOff {
		return addr, nil
	}
	err := p.try(addr)
	if err == nil {
		return addr, nil
	}
	if !p.given && errors.Is(err, syscall.EADDRINUSE) {
		logger.Warn("port is in use; taking a free one", "for", what, "port", p.prefer)
		return "127.0.0.1:0", nil
	}
	return "", fmt.Errorf("%s cannot listen on %s: %w: stop what uses the port, or choose another (0 takes a free one)", what, addr, err)
}

// try tells whether an address can be listened on.
func (p *port) try(addr string) error {
	if p.udp {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// number is the port of a host:port address.
func number(addr string) int {
	_, s, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := net.LookupPort("tcp", s)
	if err != nil {
		return 0
	}
	return n
}
