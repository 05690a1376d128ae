package token

import (
	"strings"
	"testing"
)

func TestSessionIDsCannotBeMadeUp(t *testing.T) {
	s, err := NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigner([]byte("another key of 16"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 1000 {
		id := s.NewSessionID()
		if seen[id] || !s.IsSessionID(id) || other.IsSessionID(id) || s.IsSessionID(id[:26]) || s.IsSessionID(id+"A") || s.IsSessionID("t"+id[1:]) {
			t.Fatalf("id %s", id)
		}
		seen[id] = true
		for i := 1; i < len(id); i++ {
			c := "A"
			if id[i] == 'A' {
				c = "B"
			}
			if made := id[:i] + c + id[i+1:]; s.IsSessionID(made) {
				t.Fatalf("%s is accepted, made from %s", made, id)
			}
		}
	}
	if k := string(s.GroupKey()); k != string(s.GroupKey()) || k == string(other.GroupKey()) {
		t.Error("the key of groups is not that of the signer's key")
	}
	for _, id := range []string{"", "s", "s" + strings.Repeat("A", 26), "4f2c-foreign"} {
		if s.IsSessionID(id) {
			t.Errorf("%q is accepted", id)
		}
	}
}
