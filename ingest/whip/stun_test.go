package whip

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/pion/stun/v4"
)

// TestProbeAnswer: a STUN library understands the answer, and finds its own address in it.
func TestProbeAnswer(t *testing.T) {
	for _, ip := range []string{"192.0.2.7", "2001:db8::7"} {
		q := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
		if !isProbe(q.Raw) {
			t.Fatalf("%x is no probe", q.Raw)
		}
		var m stun.Message
		if err := stun.Decode(probeAnswer(q.Raw, &net.UDPAddr{IP: net.ParseIP(ip), Port: 40000}), &m); err != nil {
			t.Fatal(err)
		}
		var at stun.XORMappedAddress
		if err := at.GetFrom(&m); err != nil || m.Type != stun.BindingSuccess || m.TransactionID != q.TransactionID || at.IP.String() != ip || at.Port != 40000 {
			t.Errorf("%s: %v, %+v, %v", ip, m.Type, at, err)
		}
	}
	session := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("a:b"))
	if isProbe(session.Raw) {
		t.Error("a session's request is taken for a probe")
	}
}

// FuzzProbe: whatever comes is a probe or is not, and is answered without panic and not at length.
func FuzzProbe(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	f.Add([]byte{0, 1, 0, 0})
	from := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !isProbe(b) {
			return
		}
		if a := probeAnswer(b, from); len(a) != 32 || binary.BigEndian.Uint16(a[2:]) != 12 {
			t.Errorf("%x is answered %x", b, a)
		}
	})
}
