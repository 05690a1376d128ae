package main

import (
	"fmt"
	"testing"
)

func TestTrustedProxies(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "10.1.2.3/8, 192.0.2.7": "[10.0.0.0/8 192.0.2.7/32]", "2001:db8::/32,::ffff:192.0.2.1": "[2001:db8::/32 192.0.2.1/32]",
	} {
		if got, err := parseProxies(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"proxy.example", "10.0.0.0/33", "fe80::1%eth0"} {
		if got, err := parseProxies(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
