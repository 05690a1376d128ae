package scheme

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// nginxSum is what nginx's secure_link_md5 compares: base64url(MD5(expires +
// path + " " + secret)) without padding.
// See https://nginx.org/en/docs/http/ngx_http_secure_link_module.html.
func nginxSum(expires, path string, key []byte) string {
	h := md5.New()
	h.Write([]byte(expires + path + " "))
	h.Write(key)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func nginxKey(key []byte) error {
	// MD5 of a secret at the end is all that secure_link has: only a long secret makes it hold.
	if len(key) < 16 {
		return fmt.Errorf("the key has %d bytes: at least 16 are needed", len(key))
	}
	return nil
}

func nginxExpired(expires string, now time.Time) (int64, error) {
	n, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != expires {
		return 0, fmt.Errorf("%w: its end is not a number", ErrSignature)
	}
	if now.Unix() > n {
		return n, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-n)
	}
	return n, nil
}

// NginxPath is nginx's secure_link with the token in the path,
// /s/<md5>/<expires>/<app>/<stream>/..., signed for the stream's folder:
//
//	location ~ ^/s/(?<sum>[\w-]+)/(?<until>\d+)(?<dir>/[^/]+/[^/]+/)(?<rest>.*)$ {
//	    secure_link $sum,$until;
//	    secure_link_md5 "$until$dir SECRET";
//	    if ($secure_link = "")  { return 403; }
//	    if ($secure_link = "0") { return 403; }
//	    proxy_pass http://ORIGIN$dir$rest$is_args$args;
//	}
type NginxPath struct{}

// Name is nginx-path.
func (NginxPath) Name() string { return "nginx-path" }

// Inherits is nil.
func (NginxPath) Inherits() error { return nil }

// CheckKey asks for 16 bytes.
func (NginxPath) CheckKey(key []byte) error { return nginxKey(key) }

// Sign signs the folder.
func (NginxPath) Sign(u *url.URL, g Grant, key []byte) (*url.URL, error) {
	if err := errors.Join(nginxKey(key), checkSign(u, g)); err != nil {
		return nil, err
	}
	expires := strconv.FormatInt(g.ExpiresUnix, 10)
	return withPrefix(u, "s/"+nginxSum(expires, g.Dir, key)+"/"+expires)
}

// Verify does what the configuration above makes nginx do.
func (NginxPath) Verify(u *url.URL, key []byte, now time.Time) (Grant, string, error) {
	f := strings.SplitN(u.Path, "/", 7) // "", s, sum, expires, app, stream, rest
	if len(f) < 7 || f[1] != "s" {
		return Grant{}, "", ErrNoToken
	}
	g := Grant{Dir: "/" + f[4] + "/" + f[5] + "/"}
	if !hmac.Equal([]byte(f[2]), []byte(nginxSum(f[3], g.Dir, key))) {
		return Grant{}, "", ErrSignature
	}
	path := g.Dir + f[6]
	if !inDir(path, g.Dir) {
		return Grant{}, "", ErrPath
	}
	var err error
	g.ExpiresUnix, err = nginxExpired(f[3], now)
	return g, path, err
}

// NginxQuery is nginx's secure_link as its documentation shows it:
// ?md5=<md5>&expires=<expires>, signed for one path. It protects single files only.
type NginxQuery struct{}

// Name is nginx-query.
func (NginxQuery) Name() string { return "nginx-query" }

// Inherits says why not.
func (NginxQuery) Inherits() error { return needQuery("nginx-path") }

// CheckKey asks for 16 bytes.
func (NginxQuery) CheckKey(key []byte) error { return nginxKey(key) }

// Sign signs u's path, whatever folder g names.
func (NginxQuery) Sign(u *url.URL, g Grant, key []byte) (*url.URL, error) {
	if err := nginxKey(key); err != nil {
		return nil, err
	}
	expires := strconv.FormatInt(g.ExpiresUnix, 10)
	v := *u
	q := v.Query()
	q.Set("md5", nginxSum(expires, u.Path, key))
	q.Set("expires", expires)
	v.RawQuery = q.Encode()
	return &v, nil
}

// Verify checks the query.
func (NginxQuery) Verify(u *url.URL, key []byte, now time.Time) (Grant, string, error) {
	q := u.Query()
	expires := q.Get("expires")
	if q.Get("md5") == "" {
		return Grant{}, "", ErrNoToken
	}
	if !hmac.Equal([]byte(q.Get("md5")), []byte(nginxSum(expires, u.Path, key))) {
		return Grant{}, "", ErrSignature
	}
	n, err := nginxExpired(expires, now)
	return Grant{Dir: u.Path, ExpiresUnix: n}, u.Path, err
}
