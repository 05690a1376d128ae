//go:build !linux

package router

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// generator needs Linux.
type generator struct {
	requests [][]byte
	rate     int
	window   time.Duration
	most     int
	body     func(int, []byte)
}

func (*generator) run(context.Context, netip.AddrPort, int) ([]time.Duration, time.Duration, error) {
	return nil, 0, errors.New("this measurement needs Linux")
}

func threadCPU() (time.Duration, error) { return 0, errors.New("this measurement needs Linux") }
