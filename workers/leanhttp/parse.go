package leanhttp

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// maxFields bounds the header fields of a request that is read here.
const maxFields = 64

// Bytes by where they may stand. What lies outside is legal in many places; it
// goes to net/http, which knows what to make of it.
const (
	inPath = 1 << iota
	inQuery
	inName
	inValue
	inHost
)

var class = func() (c [256]uint8) {
	set := func(bits uint8, s string) {
		for i := range len(s) {
			c[s[i]] |= bits
		}
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	set(inPath|inName|inHost, letters)
	set(inPath, "/-_.~")
	set(inName, "!#$%&'*+-.^_`|~") // RFC 9110 section 5.6.2
	set(inHost, "-._:[]")
	for b := 0x20; b < 0x7f; b++ {
		c[b] |= inValue
		if b != ' ' && b != '#' {
			c[b] |= inQuery
		}
	}
	c['\t'] |= inValue
	return c
}()

func all(s string, bits uint8) bool {
	for i := range len(s) {
		if class[s[i]]&bits == 0 {
			return false
		}
	}
	return true
}

// parse reads the head of a request, with the empty line that ends it, into r
// and reports whether it is one that this package answers: GET or HEAD, HTTP/1.1,
// one Host, no body, nothing that could be read in two ways. Of such a request
// net/http makes the same (FuzzParse). values is memory for the header's slices.
func parse(head string, r *http.Request, values []string) ([]string, bool) {
	line, rest, ok := strings.Cut(head, "\r\n")
	if !ok || !parseLine(line, r) {
		return values, false
	}
	clear(r.Header)
	r.Host, r.Close = "", false
	r.Body, r.Form, r.PostForm, r.MultipartForm = http.NoBody, nil, nil, nil // what a handler may have left
	for n := 0; ; n++ {
		line, rest, ok = strings.Cut(rest, "\r\n")
		switch {
		case !ok || n > maxFields:
			return values, false
		case line == "":
			return values, rest == "" && r.Host != ""
		}
		var good bool
		if values, good = parseField(line, r, values); !good {
			return values, false
		}
	}
}

func parseLine(line string, r *http.Request) bool {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, ok := strings.Cut(rest, " ")
	if !ok || proto != "HTTP/1.1" || method != http.MethodGet && method != http.MethodHead {
		return false
	}
	path, query, asked := strings.Cut(target, "?")
	if len(path) == 0 || path[0] != '/' || strings.HasPrefix(path, "//") || !all(path, inPath) || asked && query == "" || !all(query, inQuery) {
		return false
	}
	r.Method, r.RequestURI = method, target
	*r.URL = url.URL{Path: path, RawQuery: query}
	return true
}

func parseField(line string, r *http.Request, values []string) ([]string, bool) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || !all(name, inName) || !all(value, inValue) {
		return values, false
	}
	value = strings.Trim(value, " \t")
	name = textproto.CanonicalMIMEHeaderKey(name)
	switch name {
	case "Host":
		if r.Host != "" || value == "" || !all(value, inHost) {
			return values, false
		}
		r.Host = value
		return values, true
	case "Connection":
		// Other values name fields that concern this connection alone.
		switch {
		case strings.EqualFold(value, "close"):
			r.Close = true
		case !strings.EqualFold(value, "keep-alive"):
			return values, false
		}
	case "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Expect", "Http2-Settings", "Proxy-Connection", "Pragma":
		return values, false
	}
	if old, ok := r.Header[name]; ok {
		r.Header[name] = append(old[:len(old):len(old)], value)
		return values, true
	}
	values = append(values, value)
	r.Header[name] = values[len(values)-1 : len(values) : len(values)]
	return values, true
}
