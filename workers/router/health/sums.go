package health

// sums are what sessions add up to, with old ones fading.
type sums struct {
	played, stalled  float64 // ms
	attempts, fails  float64
	starts, startup  float64 // count, ms
	requests, errors float64
	bytes, bitrateMs float64 // bytes; kbit/s x ms
	bitrateWeight    float64 // ms
	throughput       float64 // kbit/s, of reports that tell it
	measured         float64 // such reports
	compared, fell   float64 // throughputs that could be compared with one before, and those much lower
	sessions         float64 // slices, faded: a measure of how many report
}

func (s *sums) scale(f float64) {
	s.played *= f
	s.stalled *= f
	s.attempts *= f
	s.fails *= f
	s.starts *= f
	s.startup *= f
	s.requests *= f
	s.errors *= f
	s.bytes *= f
	s.bitrateMs *= f
	s.bitrateWeight *= f
	s.throughput *= f
	s.measured *= f
	s.compared *= f
	s.fell *= f
	s.sessions *= f
}

// add adds the share f of x.
func (s *sums) add(x *sums, f float64) {
	s.played += f * x.played
	s.stalled += f * x.stalled
	s.attempts += f * x.attempts
	s.fails += f * x.fails
	s.starts += f * x.starts
	s.startup += f * x.startup
	s.requests += f * x.requests
	s.errors += f * x.errors
	s.bytes += f * x.bytes
	s.bitrateMs += f * x.bitrateMs
	s.bitrateWeight += f * x.bitrateWeight
	s.throughput += f * x.throughput
	s.measured += f * x.measured
	s.compared += f * x.compared
	s.fell += f * x.fell
	s.sessions += f * x.sessions
}

// lost is what is compared when groups are trimmed: the share of time stalled
// and of starts failed.
func (s *sums) lost() float64 {
	return ratio(s.stalled, s.played+s.stalled) + ratio(s.fails, s.attempts) + ratio(s.errors, s.requests)
}

// tells says whether the share f of what was told is anything.
func (s *sums) tells(f float64) bool {
	return f*(s.played+s.stalled+s.attempts+s.requests+s.measured) >= 1e-3
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}
