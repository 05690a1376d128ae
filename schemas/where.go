package schemas

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HeaderWhere is on a decision that sends a session to a CDN: what routers tell
// each other by it, so that they need not read the decisions' bodies, which are
// twenty times as long where there are many CDNs.
const HeaderWhere = "Spillway-Where"

// WhereNowhere is the header's value on a decision that sends no session. A router's decision without the header is
// one of a version before it.
const WhereNowhere = "-"

// Where is the value of HeaderWhere.
type Where struct {
	// TimeUs is when the router decided, Unix microseconds by its clock.
	TimeUs    int64
	SessionID string
	CDN       string
	// Group is the viewer's group of address prefixes, Region its region; may be empty.
	Group  uint8
	Region string
}

// Where gives the header's value of a decision; false for one that sends no session.
func (d *Decision) Where() (Where, bool) {
	if d.Kind == DecisionPublish || d.SessionID == "" || d.Chosen == "" {
		return Where{}, false
	}
	return Where{d.TimeUs, d.SessionID, d.Chosen, d.Group, d.Region}, true
}

// String is "<time> <session> <CDN> <group> <region>"; a region may hold blanks.
func (w Where) String() string {
	b := make([]byte, 0, 64+len(w.SessionID)+len(w.Region))
	b = strconv.AppendInt(b, w.TimeUs, 10)
	b = append(append(append(append(b, ' '), w.SessionID...), ' '), w.CDN...)
	b = strconv.AppendUint(append(b, ' '), uint64(w.Group), 10)
	return string(append(append(b, ' '), w.Region...))
}

// ReadWheres appends what a message's values of HeaderWhere say, and gives the time of the newest decision among
// them. Those that send no session are left out.
func ReadWheres(out []Where, values []string) (all []Where, newestUs int64) {
	for _, v := range values {
		if w, err := ParseWhere(v); err == nil {
			out = append(out, w)
			newestUs = max(newestUs, w.TimeUs)
		}
	}
	return out, newestUs
}

// OlderThan is how long before the newest decision of its message, which one router made, this one was made; at most an hour.
func (w *Where) OlderThan(newestUs int64) time.Duration {
	return min(time.Duration(newestUs-w.TimeUs)*time.Microsecond, time.Hour)
}

// ParseWhere reads a header's value.
func ParseWhere(s string) (w Where, err error) {
	bad := func() (Where, error) { return Where{}, fmt.Errorf("%.200q is no value of %s", s, HeaderWhere) }
	var f [4]string
	rest := s
	for i := range f {
		var ok bool
		if f[i], rest, ok = strings.Cut(rest, " "); !ok && i < 3 || f[i] == "" {
			return bad() // who trims the value leaves no blank behind the group of an empty region
		}
	}
	w = Where{SessionID: f[1], CDN: f[2], Region: rest}
	if w.TimeUs, err = strconv.ParseInt(f[0], 10, 64); err != nil {
		return bad()
	}
	group, err := strconv.ParseUint(f[3], 10, 8)
	if err != nil || CheckName("CDN", w.CDN) != nil || len(s) > 1024 {
		return bad()
	}
	w.Group = uint8(group)
	return w, nil
}
