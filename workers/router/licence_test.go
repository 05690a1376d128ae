package router

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestLicenceRequests(t *testing.T) {
	id := base64.RawURLEncoding.EncodeToString(make([]byte, 16))
	if k, err := parseLicenceRequest([]byte(`{"kids":["` + id + `"],"type":"temporary"}`)); err != nil || len(k) != 1 {
		t.Errorf("%v %v", k, err)
	}
	for _, b := range []string{"", "{}", `{"kids":[]}`, `{"kids":["AA"]}`, `{"kids":["` + id + `"],"type":"persistent-license"}`,
		`{"kids":["` + strings.Repeat(id+`","`, maxLicenceKeys) + id + `"]}`} {
		if _, err := parseLicenceRequest([]byte(b)); err == nil {
			t.Errorf("%.60s was taken", b)
		}
	}
}

func FuzzLicenceRequest(f *testing.F) {
	f.Add([]byte(`{"kids":["AAAAAAAAAAAAAAAAAAAAAA"],"type":"temporary"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := parseLicenceRequest(b); err == nil && (len(k) == 0 || len(k) > maxLicenceKeys) {
			t.Fatalf("%d ids", len(k))
		}
	})
}
