package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

// Pages show pictures as images, which send no Authorization. Who has shown the admin
// token gets a cookie that opens pictures of private streams and nothing else.
const (
	pictureCookie     = "spillway_pictures"
	pictureCookieLife = 12 * time.Hour
)

// pictureKey is the cookie's value: who has it does not have the token.
func (c *Console) pictureKey() string {
	h := hmac.New(sha256.New, []byte(c.s.AdminToken))
	h.Write([]byte("pictures of private streams"))
	return hex.EncodeToString(h.Sum(nil))
}

func (c *Console) hasPictureKey(r *http.Request) bool {
	if c.s.AdminToken == "" {
		return false
	}
	want := []byte(c.pictureKey())
	for _, k := range r.CookiesNamed(pictureCookie) {
		if hmac.Equal([]byte(k.Value), want) {
			return true
		}
	}
	return false
}

// grantPictures answers PUT /v1/picture-access, with the admin token.
func (c *Console) grantPictures(w http.ResponseWriter, r *http.Request) {
	if c.admin(w, r) {
		setPictureCookie(w, r, c.pictureKey(), int(pictureCookieLife.Seconds()))
	}
}

// endPictures answers DELETE /v1/picture-access: this browser has access no more.
func endPictures(w http.ResponseWriter, r *http.Request) { setPictureCookie(w, r, "", -1) }

func setPictureCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: pictureCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
