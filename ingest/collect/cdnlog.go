package collect

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// cdnlog takes edges' request logs, one schemas.CDNLogLine in JSON a line.
func (c *Collector) cdnlog(w http.ResponseWriter, r *http.Request, now time.Time) int {
	if r.Method != http.MethodPost {
		return notAllowed(w, "POST, OPTIONS")
	}
	if !c.fromEdge(r) {
		c.m.reject("edge_key", 1)
		return refuse(w, http.StatusForbidden, "request logs are taken from edges only: send the edge key in the header %s", HeaderEdgeKey)
	}
	text, err := c.body(r, schemas.MaxCDNLogBatchBytes)
	if err != nil {
		return c.refuseBody(w, err)
	}
	buf := c.rowBuffer()
	defer c.giveBack(buf)
	var marks []lineMark
	l := logReader{c: c, recvUs: now.UnixMicro()}
	for text != "" {
		var line string
		if line, text, _ = strings.Cut(text, "\n"); strings.TrimSpace(line) == "" {
			continue
		}
		if mark, ok := l.add(buf, line); ok {
			marks = append(marks, mark)
		}
	}
	code := c.accept(w, r, *buf)
	if code == http.StatusNoContent {
		c.lines.mark(marks, now)
	}
	return code
}

// logReader turns log lines into rows.
type logReader struct {
	c      *Collector
	recvUs int64
	rec    cmcd.Record
	line   schemas.CDNLogLine
	// The agent of the line before: most lines of a batch come from few clients.
	ua    string
	agent agent
}

// add appends the row of a line, unless the line is bad or was accepted before.
// The mark is to be set once the row is accepted.
func (l *logReader) add(rows *[]schemas.Telemetry, text string) (lineMark, bool) {
	c := l.c
	reject := func(why string) (lineMark, bool) {
		c.m.reject(why, 1)
		return lineMark{}, false
	}
	if len(text) > schemas.MaxCDNLogLineBytes {
		return reject("line_too_long")
	}
	l.line = schemas.CDNLogLine{}
	if !fastLine(text, &l.line) {
		l.line = schemas.CDNLogLine{}
		if err := json.Unmarshal([]byte(text), &l.line); err != nil {
			return reject("line_bad_json")
		}
	}
	x := &l.line
	if x.Check() != nil {
		return reject("line_bad_field")
	}
	mark := lineMark{lineSource{x.CDN, short(x.Server), short(x.Boot)}, x.Seq}
	if c.lines.seen(mark) {
		c.m.repeatedLine()
		return lineMark{}, false
	}
	*rows = append(*rows, schemas.Telemetry{ReceivedUnixUs: l.recvUs})
	l.fill(&(*rows)[len(*rows)-1])
	return mark, true
}

func (l *logReader) fill(t *schemas.Telemetry) {
	x := &l.line
	if x.UserAgent != l.ua {
		l.ua, l.agent = x.UserAgent, parseAgent(x.UserAgent)
	}
	d := dims{agent: l.agent}
	if x.SessionID != "" {
		// The edge has verified the token; its claims count as those of one.
		d.signed = true
		d.token.SessionID, d.token.ViewerID = text(x.SessionID, maxID), text(x.ViewerID, maxID)
		d.token.App, d.token.Stream, d.token.Arms = short(x.App), short(x.Stream), text(x.Arms, 1024)
	}
	t.Region, t.ISP = short(x.Region), short(x.ISP)
	d.token.Region, d.token.ISP = t.Region, t.ISP
	l.cmcd(t, &d)
	t.TsUnixMs = x.TsMs // the edge's clock, also beside CMCD
	t.CDN, t.Server = x.CDN, text(x.Server, maxID)
	t.URLHost, t.URLPath = text(x.Host, 256), text(cleanPath(x.Path), maxPath)
	if t.App == "" {
		// Without token and CMCD the path still tells the stream: /<app>/<stream>/...
		f := strings.SplitN(t.URLPath, "/", 4)
		if len(f) == 4 && f[0] == "" && (schemas.StreamKey{App: f[1], Stream: f[2]}).Check() == nil {
			t.App, t.Stream = f[1], f[2]
		}
	}
	n := narrow{}
	n.put(&t.ResponseCode, true, int64(x.Status))
	n.put(&t.FirstByteMs, x.Status != 0 && x.FirstByteMs >= 0 && x.FirstByteMs < math.MaxInt32, int64(math.Round(x.FirstByteMs)))
	n.put(&t.LastByteMs, x.TotalMs >= 0 && x.TotalMs < math.MaxInt32, int64(math.Round(x.TotalMs)))
	t.Bytes = schemas.OptInt64{V: x.Bytes, OK: true}
	t.CacheHit = schemas.OptBool{V: x.CacheHit, OK: true}
	synthetic := x.SessionID == "" && strings.HasPrefix(x.UserAgent, schemas.ProbeUserAgent)
	if synthetic {
		t.Client = "spillway-probe"
	}
	// Who was refused for want of a token is no viewer, and the part is not missing.
	refused := x.SessionID == "" && (x.Status == http.StatusUnauthorized || x.Status == http.StatusForbidden)
	if !x.Aborted && !synthetic && !refused {
		l.c.markHop(t, schemas.HopEdge, t.TsUnixMs+int64(x.FirstByteMs), l.recvUs)
	}
	l.detail(t)
}

// cmcd reads the CMCD of the line, if it has any, and the dimensions.
func (l *logReader) cmcd(t *schemas.Telemetry, d *dims) {
	c, x := l.c, &l.line
	carried := x.CMCDHeaders
	if carried == "" {
		carried = x.CMCD
	}
	o := cmcd.Absent
	if carried != "" {
		o = l.rec.ParseText(cmcd.ModeRequest, carried)
	}
	if o == cmcd.Parsed {
		fixes := l.rec.Correct(l.recvUs / 1000)
		c.m.record(&l.rec, fixes)
		c.fillCMCD(t, &l.rec, fixes, d)
		return
	}
	if o != cmcd.Absent {
		c.m.reject(o.String(), 1)
	}
	t.Source = schemas.SourceCDNLog
	d.apply(t)
}

// detail adds what identifies the line, so that readers can recognise a repeat
// too, and why the edge refused or failed the request.
func (l *logReader) detail(t *schemas.Telemetry) {
	x := &l.line
	var b []byte
	if t.Detail != "" {
		b = append(b, t.Detail[1:len(t.Detail)-1]...)
	}
	if boot := short(x.Boot); boot != "" {
		b = member(b, "line", boot+"/"+strconv.FormatUint(x.Seq, 10))
	}
	if x.Coalesced {
		b = member(b, "coalesced", "1")
	}
	if why := text(x.Reason, maxExtraValue); why != "" {
		b = member(b, "edge_reason", why)
	}
	if x.Method != http.MethodGet {
		b = member(b, "method", short(x.Method))
	}
	t.Detail = object(b)
}
