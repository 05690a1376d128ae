package router

import (
	"net/url"
	"testing"
)

// FuzzQuery: a query says here what it says to net/url, or neither takes it.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"app=live&stream=demo&viewer=a%20b", "s=e.x&_HLS_pathway=%22a%22&_HLS_throughput=5", "a=1&a=2&&b", "a=b+c&d+e=f", "a;b=c", "a=%zz", "%zz=a", "=", "a==b", "%", "&&",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		want, wantErr := url.ParseQuery(raw)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, net/url says %v", raw, err, wantErr)
		}
		if err != nil {
			return
		}
		have := url.Values{}
		for _, p := range q {
			have.Add(p.name, p.value)
		}
		if have.Encode() != want.Encode() {
			t.Errorf("%q: %v, net/url says %v", raw, have, want)
		}
		for name := range want {
			if q.Get(name) != want.Get(name) || q.with(name, "x").Get(name) != "x" {
				t.Errorf("%q: %s is %q, net/url says %q", raw, name, q.Get(name), want.Get(name))
			}
		}
	})
}
