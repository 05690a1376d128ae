package collect

import (
	"net/http"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// cmcd takes event bodies, and request-mode records in headers or query.
func (c *Collector) cmcd(w http.ResponseWriter, r *http.Request, now time.Time) int {
	buf := c.rowBuffer()
	defer c.giveBack(buf)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if !c.request(buf, r, now) {
			return refuse(w, http.StatusBadRequest, "there is no CMCD: give the query argument CMCD, or CMCD headers, or POST event records")
		}
		return c.accept(w, r, *buf)
	case http.MethodPost:
	default:
		return notAllowed(w, "GET, HEAD, POST, OPTIONS")
	}
	text, err := c.body(r, c.s.MaxBodyBytes)
	if err != nil {
		return c.refuseBody(w, err)
	}
	if strings.TrimSpace(text) == "" {
		c.request(buf, r, now) // some clients post request-mode records without a body
		return c.accept(w, r, *buf)
	}
	d := c.dims(r, now)
	c.events(buf, text, &d, now)
	return c.accept(w, r, *buf)
}

// events adds a row for each record of an event body.
func (c *Collector) events(rows *[]schemas.Telemetry, text string, d *dims, now time.Time) {
	recv := now.UnixMicro()
	// The first records of a session do not show which player sent them; others of the same body may.
	player := d.playerHint()
	left := cmcd.ParseBody(text, c.s.MaxRecords, func(rec *cmcd.Record, o cmcd.Outcome) bool {
		if o != cmcd.Parsed {
			c.m.record(rec, 0)
			c.m.reject(o.String(), 1)
			return true
		}
		if rec.Player = rec.Detect(); rec.Player == cmcd.PlayerUnknown {
			rec.Player = player
		} else {
			player = rec.Player
		}
		c.add(rows, rec, d, recv)
		return true
	})
	if left > 0 {
		c.m.reject("too_many", left)
	}
}

// request adds a row for a record in headers or query, and reports whether there was one.
func (c *Collector) request(rows *[]schemas.Telemetry, r *http.Request, now time.Time) bool {
	var rec cmcd.Record
	switch o := rec.ParseRequest(r.Header, r.URL.RawQuery); o {
	case cmcd.Absent:
		return false
	case cmcd.Parsed:
		d := c.dims(r, now)
		if rec.Player = rec.Detect(); rec.Player == cmcd.PlayerUnknown {
			rec.Player = d.playerHint()
		}
		c.add(rows, &rec, &d, now.UnixMicro())
	default:
		c.m.record(&rec, 0)
		c.m.reject(o.String(), 1)
	}
	return true
}

// add corrects the record and appends its row.
func (c *Collector) add(rows *[]schemas.Telemetry, rec *cmcd.Record, d *dims, recvUs int64) {
	fixes := rec.Correct(recvUs / 1000)
	if fixes != 0 || len(rec.Issues()) > 0 || rec.UnknownKeys > 0 {
		c.m.record(rec, fixes)
	}
	*rows = append(*rows, schemas.Telemetry{ReceivedUnixUs: recvUs})
	c.fillCMCD(&(*rows)[len(*rows)-1], rec, fixes, d)
}
