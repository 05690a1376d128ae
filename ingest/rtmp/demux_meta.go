package rtmp

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/bluenviron/gortmplib/pkg/amf0"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

// metadata is what data messages announced.
type metadata struct {
	come                 bool // onMetaData has come
	wantVideo, wantAudio bool // what it announced
	fps                  float64
	encoder              string

	wallUs int64  // a wall-clock, Unix microseconds; 0: none that has not been used
	at     uint32 // timestamp of the message that carried it
}

// read takes a data message: onMetaData, sent with or without @setDataFrame before
// it, and the messages by which encoders tell their clock.
func (m *metadata) read(p amf0.Data, ts uint32) {
	if len(p) > 0 && p[0] == "@setDataFrame" {
		p = p[1:]
	}
	if len(p) < 2 {
		return
	}
	name, _ := p[0].(string)
	o, ok := asObject(p[1])
	if !ok {
		return
	}
	switch name {
	case "onMetaData":
		m.announce(o)
	case "onFI", "onTextData", "onCuePoint", "onTimecode":
	default:
		return
	}
	if us := wallClockOf(o); us != 0 {
		m.wallUs, m.at = us, ts
	}
}

func (m *metadata) announce(o amf0.Object) {
	m.come = true
	announced := func(key string) bool {
		v, ok := o.Get(key)
		if !ok {
			return false
		}
		switch v := v.(type) {
		case float64:
			return v != 0
		case string:
			return v != ""
		}
		return false
	}
	m.wantVideo, m.wantAudio = announced("videocodecid"), announced("audiocodecid")
	if f, ok := o.GetFloat64("framerate"); ok {
		m.fps = f
	}
	if e, ok := o.GetString("encoder"); ok {
		m.encoder = strings.ToValidUTF8(e[:min(len(e), 100)], "")
	}
}

// mark gives a frame the clock of the last data message, once.
func (m *metadata) mark(f *cut.Frame) {
	if m.wallUs == 0 {
		return
	}
	// Frame times are the same clock, extended; the message is at most seconds away.
	away := int64(int32(uint32(f.DTSUs/1000) - m.at))
	if away > -10_000 && away < 10_000 {
		f.CaptureUs = m.wallUs + away*1000 + f.CTSUs
		f.Capture = cut.Capture{Source: schemas.ClockMetadata, BoundUs: 1000}
	}
	m.wallUs = 0
}

// wallClockOf reads the clock out of a message's values, Unix microseconds; 0 if
// there is none. Encoders agree on little: onFI carries sd (day-month-year) and st
// (time of day), others a number or RFC 3339 text under one of several names.
func wallClockOf(o amf0.Object) int64 {
	if sd, ok := o.GetString("sd"); ok {
		if st, ok := o.GetString("st"); ok {
			return dateAndTime(sd, st)
		}
	}
	for _, key := range [...]string{"timestamp", "utcTimestamp", "utc", "wallclock", "wallClock", "unixTime", "ntpTime", "systemTime", "captureTime"} {
		v, ok := o.Get(key)
		if !ok {
			continue
		}
		switch v := v.(type) {
		case float64:
			if us := unixOf(v); us != 0 {
				return us
			}
		case string:
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				if us := unixOf(f); us != 0 {
					return us
				}
			}
			if t, err := time.Parse(time.RFC3339Nano, v); err == nil && plausibleYear(t) {
				return t.UnixMicro()
			}
		}
	}
	return 0
}

func plausibleYear(t time.Time) bool { return t.Year() >= 2001 && t.Year() < 2200 }

// unixOf guesses a Unix time's unit by its size: seconds, milliseconds, microseconds
// or nanoseconds; 0 if it is none after the year 2001.
func unixOf(v float64) int64 {
	for _, unit := range [...]float64{1e6, 1e3, 1, 1e-3} {
		if us := v * unit; us >= 1e15 && us < 7.3e15 {
			return int64(math.Round(us))
		}
	}
	return 0
}

// dateAndTime reads onFI's date and time of day in the zone of the encoder, which
// it does not say; the clock's estimate finds the difference.
func dateAndTime(date, clock string) int64 {
	clock = strings.TrimSpace(clock)
	if strings.Count(clock, ":") == 3 { // hundredths behind a colon
		i := strings.LastIndexByte(clock, ':')
		clock = clock[:i] + "." + clock[i+1:]
	}
	for _, layout := range [...]string{"02-01-2006", "02-01-06", "2006-01-02", "02/01/2006", "02.01.2006"} {
		if t, err := time.Parse(layout+" 15:04:05", strings.TrimSpace(date)+" "+clock); err == nil && plausibleYear(t) {
			return t.UnixMicro()
		}
	}
	return 0
}
