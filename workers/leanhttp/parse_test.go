package leanhttp

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func newRequest() *http.Request {
	return &http.Request{URL: &url.URL{}, Header: http.Header{}, Body: http.NoBody}
}

// heads are requests with whether they are read here.
var heads = []struct {
	head string
	ours bool
}{
	{"GET /live/one/src/video/playlist.m3u8?_HLS_msn=1&_HLS_part=2&_HLS_skip=YES HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", true},
	{"HEAD /a HTTP/1.1\r\nhost: [::1]:80\r\nuser-agent: a (b) \"c\"\r\nRange: bytes=1-2\r\nif-none-match: W/\"x\"\r\n\r\n", true},
	{"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\nAccept: a\r\nAccept:b\t\r\nEmpty:\r\n\r\n", true},
	{"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true},
	{"GET /a?b%20c='\" HTTP/1.1\r\nHost: x\r\n\r\n", true},
	{"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET //a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET * HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET /a  HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n", false},
	{" GET /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"GET /a HTTP/1.0\r\nHost: x\r\n\r\n", false},
	{"GET /a HTTP/1.2\r\nHost: x\r\n\r\n", false},
	{"GET /a\r\n\r\n", false},
	{"get /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"OPTIONS /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"POST /a HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"PRI * HTTP/2.0\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: \r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\n A: b\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", false},
	{"GET /a HTTP/1.1\nHost: x\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA: b\x00\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nA: \xff\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close, Range\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", false},
	{"GET /a HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", maxFields+1) + "\r\n", false},
}

func TestParse(t *testing.T) {
	for _, c := range heads {
		if _, ok := parse(c.head, newRequest(), nil); ok != c.ours {
			t.Errorf("%.80q: read here %t, want %t", c.head, ok, c.ours)
		}
	}
}

// FuzzParse: what is read here, net/http reads in the same way, to the same byte,
// and finds no body behind it. So a request cannot mean two things to a proxy in
// front that agrees with net/http.
func FuzzParse(f *testing.F) {
	for _, c := range heads {
		f.Add(c.head)
	}
	f.Fuzz(func(t *testing.T, in string) {
		end := strings.Index(in, "\r\n\r\n")
		if end < 0 {
			return
		}
		in = in[:end+4] // what conn.head gives
		got := newRequest()
		if _, ok := parse(in, got, nil); !ok {
			return
		}
		const after = "GET /next HTTP/1.1\r\n"
		r := bufio.NewReader(strings.NewReader(in + after))
		want, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q was taken, net/http says %v", in, err)
		}
		body, err := io.ReadAll(want.Body)
		if err != nil || len(body) > 0 || want.ContentLength != 0 || len(want.TransferEncoding) > 0 || len(want.Trailer) > 0 {
			t.Errorf("%q has a body: %q, %v", in, body, err)
		}
		if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, []byte(after)) {
			t.Errorf("%q ends elsewhere: %q follows", in, rest)
		}
		if got.Method != want.Method || *got.URL != *want.URL || got.RequestURI != want.RequestURI || got.Host != want.Host || got.Close != want.Close {
			t.Errorf("%q: %s %+v %q %t, net/http %s %+v %q %t", in, got.Method, got.URL, got.Host, got.Close, want.Method, want.URL, want.Host, want.Close)
		}
		if !maps.EqualFunc(got.Header, want.Header, slices.Equal) {
			t.Errorf("%q: %v, net/http %v", in, got.Header, want.Header)
		}
	})
}
