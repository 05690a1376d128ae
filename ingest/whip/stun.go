package whip

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// STUN's binding request and success response (RFC 8489, sections 5 and 14.2).
const (
	stunHeader       = 20
	stunRequest      = 0x0001
	stunSuccess      = 0x0101
	stunCookie       = 0x2112A442
	stunXORMapped    = 0x0020
	stunPerSecond    = 500
	stunIPv4, stunV6 = 1, 2
)

// mediaPort is the UDP port of all sessions. It answers STUN binding requests
// without attributes itself, by which publishers measure whether and how soon they
// reach it before they offer anything; those of sessions have attributes. The
// answer has 12 to 24 bytes more than the request, and there are at most stunPerSecond.
type mediaPort struct {
	*net.UDPConn
	answers *rate.Limiter
}

func newMediaPort(c *net.UDPConn) *mediaPort {
	return &mediaPort{c, rate.NewLimiter(stunPerSecond, stunPerSecond)}
}

// ReadFrom gives the next packet that is not a probe.
func (p *mediaPort) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.UDPConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		to, ok := from.(*net.UDPAddr)
		if !ok || !isProbe(b[:n]) {
			return n, from, nil
		}
		if p.answers.AllowN(time.Now(), 1) {
			_, _ = p.UDPConn.WriteTo(probeAnswer(b[:n], to), to) // who asked asks again
		}
	}
}

// isProbe says whether a packet is a STUN binding request without attributes.
func isProbe(b []byte) bool {
	return len(b) == stunHeader && binary.BigEndian.Uint16(b) == stunRequest && binary.BigEndian.Uint16(b[2:]) == 0 && binary.BigEndian.Uint32(b[4:]) == stunCookie
}

// probeAnswer is the success response: where the request came from.
func probeAnswer(request []byte, from *net.UDPAddr) []byte {
	ip, family := from.IP.To4(), byte(stunIPv4)
	if ip == nil {
		ip, family = from.IP.To16(), stunV6
	}
	out := make([]byte, stunHeader, stunHeader+8+len(ip))
	copy(out, request)
	binary.BigEndian.PutUint16(out, stunSuccess)
	binary.BigEndian.PutUint16(out[2:], uint16(8+len(ip)))
	out = binary.BigEndian.AppendUint16(out, stunXORMapped)
	out = binary.BigEndian.AppendUint16(out, uint16(4+len(ip)))
	out = append(out, 0, family)
	out = binary.BigEndian.AppendUint16(out, uint16(from.Port)^uint16(stunCookie>>16))
	for i := range ip { // cookie and transaction id, which follow each other
		out = append(out, ip[i]^request[4+i])
	}
	return out
}
