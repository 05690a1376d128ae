package scheme

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The token of Akamai's edge authorization 2.0: fields joined by ~, the last of
// them an HMAC-SHA256 of those before it, with a key written in hex:
//
//	exp=1800000000~acl=/live/demo/*~hmac=<64 hex digits>
//
// as the published generators make it for an access control list.

const akamaiField = "~hmac="

func akamaiKey(key []byte) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimSpace(string(key)))
	if err != nil || len(b) < 16 {
		return nil, errors.New("the key must be 32 or more hex digits, as Akamai's configuration shows it")
	}
	return b, nil
}

func akamaiMAC(text string, key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func akamaiToken(g Grant, key []byte) (string, error) {
	k, err := akamaiKey(key)
	if err != nil {
		return "", err
	}
	text := "exp=" + strconv.FormatInt(g.ExpiresUnix, 10) + "~acl=" + g.Dir + "*"
	return text + akamaiField + akamaiMAC(text, k), nil
}

// akamaiVerify checks a token for a path.
func akamaiVerify(tok, path string, key []byte, now time.Time) (Grant, error) {
	k, err := akamaiKey(key)
	if err != nil {
		return Grant{}, err
	}
	i := strings.LastIndex(tok, akamaiField)
	if i < 0 || !hmac.Equal([]byte(tok[i+len(akamaiField):]), []byte(akamaiMAC(tok[:i], k))) {
		return Grant{}, ErrSignature
	}
	var g Grant
	for _, f := range strings.Split(tok[:i], "~") {
		name, v, _ := strings.Cut(f, "=")
		switch name {
		case "exp":
			if g.ExpiresUnix, err = strconv.ParseInt(v, 10, 64); err != nil {
				return Grant{}, fmt.Errorf("%w: exp is not a number", ErrSignature)
			}
		case "acl":
			dir, ok := strings.CutSuffix(v, "*")
			if !ok {
				return Grant{}, fmt.Errorf("%w: acl is not a folder with *", ErrPath)
			}
			g.Dir = dir
		}
	}
	if !inDir(path, g.Dir) {
		return g, ErrPath
	}
	if now.Unix() > g.ExpiresUnix {
		return g, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-g.ExpiresUnix)
	}
	return g, nil
}

// AkamaiPath carries the token as the first folder of the path, /hdntl=<token>,
// signed for the stream's folder.
type AkamaiPath struct{}

// Name is akamai-path.
func (AkamaiPath) Name() string { return "akamai-path" }

// Inherits is nil.
func (AkamaiPath) Inherits() error { return nil }

// CheckKey asks for hex digits.
func (AkamaiPath) CheckKey(key []byte) error { _, err := akamaiKey(key); return err }

// Sign signs the folder.
func (AkamaiPath) Sign(u *url.URL, g Grant, key []byte) (*url.URL, error) {
	if err := checkSign(u, g); err != nil {
		return nil, err
	}
	tok, err := akamaiToken(g, key)
	if err != nil {
		return nil, err
	}
	return withPrefix(u, "hdntl="+tok)
}

// Verify checks the first folder of the path.
func (AkamaiPath) Verify(u *url.URL, key []byte, now time.Time) (Grant, string, error) {
	rest, ok := strings.CutPrefix(u.Path, "/hdntl=")
	i := strings.Index(rest, akamaiField) // its acl has slashes of its own
	if !ok || i < 0 {
		return Grant{}, "", ErrNoToken
	}
	end := i + len(akamaiField) + 2*sha256.Size
	if len(rest) <= end {
		return Grant{}, "", ErrNoToken
	}
	path := rest[end:]
	g, err := akamaiVerify(rest[:end], path, key, now)
	return g, path, err
}

// AkamaiQuery carries the token in the query, ?hdnts=<token>, signed for the
// stream's folder. It protects single files only.
type AkamaiQuery struct{}

// Name is akamai-query.
func (AkamaiQuery) Name() string { return "akamai-query" }

// Inherits says why not.
func (AkamaiQuery) Inherits() error { return needQuery("akamai-path") }

// CheckKey asks for hex digits.
func (AkamaiQuery) CheckKey(key []byte) error { _, err := akamaiKey(key); return err }

// Sign signs the folder.
func (AkamaiQuery) Sign(u *url.URL, g Grant, key []byte) (*url.URL, error) {
	if err := checkSign(u, g); err != nil {
		return nil, err
	}
	tok, err := akamaiToken(g, key)
	if err != nil {
		return nil, err
	}
	v := *u
	if v.RawQuery != "" {
		v.RawQuery += "&"
	}
	v.RawQuery += "hdnts=" + tok
	return &v, nil
}

// Verify checks the query.
func (AkamaiQuery) Verify(u *url.URL, key []byte, now time.Time) (Grant, string, error) {
	for _, p := range strings.Split(u.RawQuery, "&") {
		if tok, ok := strings.CutPrefix(p, "hdnts="); ok {
			tok, err := url.QueryUnescape(tok)
			if err != nil {
				return Grant{}, "", ErrSignature
			}
			g, err := akamaiVerify(tok, u.Path, key, now)
			return g, u.Path, err
		}
	}
	return Grant{}, "", ErrNoToken
}
