package predict

// meter tells of progress over several runs; nil: nobody is told.
type meter struct {
	tell      func(part float64) bool
	done, all float64 // sessions simulated
}

func newMeter(tell func(part float64) bool, sessions int) *meter {
	if tell == nil {
		return nil
	}
	return &meter{tell: tell, all: float64(max(sessions, 1))}
}

// during is told of the seconds that a run over so many sessions has come to; nil where nobody wants to know.
func (m *meter) during(sessions int, seconds float64) func(sec float64) bool {
	if m == nil {
		return nil
	}
	return func(sec float64) bool {
		return m.tell(min((m.done+float64(sessions)*min(sec/seconds, 1))/m.all, 1))
	}
}

func (m *meter) finished(sessions int) {
	if m != nil {
		m.done += float64(sessions)
	}
}
