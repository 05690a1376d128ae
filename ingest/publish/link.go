package publish

// Link is what a protocol knows of the network to its publisher.
type Link struct {
	// RTTMs is the smoothed round-trip time, milliseconds; 0: not known.
	RTTMs float64
	// Lost and Retransmitted count packets since the publication began: those that
	// were missing at first, and those that came again.
	Lost, Retransmitted uint64
}

// Link tells the state of the network to the publisher; call it about once a second.
// It is shown with the stream's statistics; the round trip counts as in [Publication.RoundTrip].
func (p *Publication) Link(l Link) {
	p.link.Store(&l)
	p.RoundTrip(int64(l.RTTMs * 1000))
}
