package loader

import (
	"maps"
	"slices"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

const dayMs = 24 * 60 * 60 * 1000

// clampMs keeps a time near that at which the bus got the message, so that a
// block touches few daily partitions and no value is out of ClickHouse's range.
// Backlogs (a spool, a replay) make rows old, never new.
func clampMs(ms, atMs int64) (int64, bool) {
	if ms < atMs-14*dayMs || ms > atMs+dayMs {
		return atMs, true
	}
	return ms, false
}

// telemetryBlock collects telemetry rows.
type telemetryBlock struct {
	*tableColumns
	received, ts *i64Column
}

var telemetryTable = schemas.TelemetryTable()

func newTelemetry() builder {
	c := newTableColumns(telemetryTable)
	return telemetryBlock{c, c.i64("received_us"), c.i64("ts_ms")}
}

func (b telemetryBlock) add(data []byte, partition int, seq uint64, atMs int64) (n, mended int, err error) {
	return b.take(telemetryTable.Read, data, partition, seq, func(from int) (mended int) {
		for i := from; i < len(b.received.ColInt64); i++ {
			received, ts := &b.received.ColInt64[i], &b.ts.ColInt64[i]
			ms, bad := clampMs(*received/1000, atMs)
			if bad {
				*received = ms * 1000
			}
			// ts has an alias as a time, which must have a value.
			if *ts < 0 || *ts > atMs+400*dayMs {
				*ts, bad = *received/1000, true
			}
			if bad {
				mended++
			}
		}
		return mended
	})
}

// sliceBlock collects session slices.
type sliceBlock struct {
	*tableColumns
	time *i64Column
	hist [2]struct{ bins, counts *list }
}

var sliceTable = schemas.SliceTable()

func newSlices() builder {
	c := newTableColumns(sliceTable)
	b := sliceBlock{tableColumns: c, time: c.i64("time_ms")}
	b.hist[0].bins, b.hist[0].counts = c.list("first_screen_bins"), c.list("first_screen_counts")
	b.hist[1].bins, b.hist[1].counts = c.list("latency_bins"), c.list("latency_counts")
	return b
}

func (b sliceBlock) add(data []byte, partition int, seq uint64, atMs int64) (n, mended int, err error) {
	return b.take(sliceTable.Read, data, partition, seq, func(from int) (mended int) {
		times := b.time.ColInt64
		for i := from; i < len(times); i++ {
			ms, bad := clampMs(times[i], atMs)
			times[i] = ms
			if bad {
				mended++
			}
		}
		// The views' sumMap refuses lists of different length.
		for _, h := range b.hist {
			mended += sameLengths(h.bins, h.counts, from)
		}
		return mended
	})
}

// take reads a message into the columns, or nothing of it; mend looks at the rows from the given one on.
func (c *tableColumns) take(read func([]byte) ([]*columnar.Batch, error), data []byte, partition int, seq uint64, mend func(from int) int) (n, mended int, err error) {
	batches, err := read(data)
	if err != nil {
		return 0, 0, err
	}
	from := c.rows()
	for _, b := range batches {
		c.append(b, partition, seq, c.rows()-from)
	}
	return c.rows() - from, mend(from), nil
}

// recordBlock collects JSON records, one or several a message.
type recordBlock struct {
	cols   proto.Input
	resets []proto.Resettable
	seq    *proto.ColUInt64
	read   func(data []byte, atMs int64) (n, mended int, err error)
}

// rowsOf reads messages of records with what makes a row of one, and says whether it was mended.
func rowsOf[T any, P interface {
	*T
	Check() error
}](b *recordBlock, row func(x *T, atMs int64) (mended bool)) builder {
	b.read = func(data []byte, atMs int64) (n, mended int, err error) {
		all, err := schemas.DecodeRecords[T, P](data)
		for i := range all {
			if row(&all[i], atMs) {
				mended++
			}
		}
		return len(all), mended, err
	}
	return b.end()
}

func (b *recordBlock) add(data []byte, _ int, seq uint64, atMs int64) (int, int, error) {
	n, mended, err := b.read(data, atMs)
	for range n {
		*b.seq = append(*b.seq, seq)
	}
	return n, mended, err
}

func (b *recordBlock) input() proto.Input { return b.cols }
func (b *recordBlock) rows() int          { return len(*b.seq) }
func (b *recordBlock) reset() {
	for _, r := range b.resets {
		r.Reset()
	}
}

func (b *recordBlock) put(name string, col proto.ColInput) {
	b.cols = append(b.cols, proto.InputColumn{Name: name, Data: col})
	b.resets = append(b.resets, col.(proto.Resettable))
}

func (b *recordBlock) dict(name string) *words {
	d := newWords()
	b.put(name, d)
	return d
}

func (b *recordBlock) str(name string) *proto.ColStr {
	c := new(proto.ColStr)
	b.put(name, c)
	return c
}

func (b *recordBlock) time() func(us, atMs int64) (mended bool) {
	c := new(proto.ColDateTime64).WithPrecision(proto.PrecisionMicro)
	b.put("time", c)
	return func(us, atMs int64) bool {
		ms, bad := clampMs(us/1000, atMs)
		if bad {
			us = ms * 1000
		}
		c.AppendRaw(proto.DateTime64(us))
		return bad
	}
}

func (b *recordBlock) f64(name string) *proto.ColFloat64 {
	c := new(proto.ColFloat64)
	b.put(name, c)
	return c
}

func (b *recordBlock) end() *recordBlock {
	b.seq = new(proto.ColUInt64)
	b.put("bus_seq", b.seq)
	return b
}

func newDecisions() builder {
	b := &recordBlock{}
	at := b.time()
	kind, id, app, stream := b.dict("kind"), b.str("id"), b.dict("app"), b.dict("stream")
	sid, vid, region, isp := b.str("session_id"), b.str("viewer_id"), b.dict("region"), b.dict("isp")
	policy, version, chosen, previous := b.dict("policy"), b.dict("policy_version"), b.dict("chosen"), b.dict("previous")
	probability, reason := b.f64("probability"), b.dict("reason_code")
	age := new(proto.ColInt64)
	b.put("input_age_ms", age)
	arms := b.dict("arms")
	cdns := proto.NewArray[string](proto.NewLowCardinality[string](new(proto.ColStr)))
	scores, viewers := proto.NewArray[float64](new(proto.ColFloat64)), proto.NewArray[int64](new(proto.ColInt64))
	excluded := proto.NewArray[string](proto.NewLowCardinality[string](new(proto.ColStr)))
	tiers := proto.NewArray[string](proto.NewLowCardinality[string](new(proto.ColStr)))
	loads, harms := proto.NewArray[float64](new(proto.ColFloat64)), proto.NewArray[float64](new(proto.ColFloat64))
	capBps, queued := new(proto.ColInt64), new(proto.ColInt64)
	b.put("candidate_cdns", cdns)
	b.put("candidate_scores", scores)
	b.put("candidate_viewers", viewers)
	b.put("candidate_excluded", excluded)
	b.put("candidate_tiers", tiers)
	b.put("candidate_loads", loads)
	b.put("candidate_harms", harms)
	b.put("cap_bps", capBps)
	b.put("queued_ms", queued)
	return rowsOf(b, func(d *schemas.Decision, atMs int64) bool {
		mended := at(d.TimeUs, atMs)
		kind.add(string(d.Kind))
		id.Append(d.ID)
		app.add(d.App)
		stream.add(d.Stream)
		sid.Append(d.SessionID)
		vid.Append(d.ViewerID)
		region.add(d.Region)
		isp.add(d.ISP)
		policy.add(d.Policy)
		version.add(d.PolicyVersion)
		chosen.add(d.Chosen)
		previous.add(d.Previous)
		probability.Append(d.Probability)
		reason.add(d.ReasonCode)
		age.Append(d.InputAgeMs)
		arms.add(d.Arms)
		n := len(d.Candidates)
		cs, ss, vs, xs := make([]string, n), make([]float64, n), make([]int64, n), make([]string, n)
		ts, ls, hs := make([]string, n), make([]float64, n), make([]float64, n)
		for i, c := range d.Candidates {
			cs[i], ss[i], vs[i], xs[i] = c.CDN, c.Score, int64(c.Viewers), c.Excluded
			ts[i], ls[i], hs[i] = c.Tier, c.Load, c.Harm
		}
		cdns.Append(cs)
		scores.Append(ss)
		viewers.Append(vs)
		excluded.Append(xs)
		tiers.Append(ts)
		loads.Append(ls)
		harms.Append(hs)
		capBps.Append(d.CapBps)
		queued.Append(d.QueuedMs)
		return mended
	})
}

func newExposures() builder {
	b := &recordBlock{}
	at := b.time()
	id, exp, salt, unit, kind := b.str("id"), b.dict("experiment"), b.dict("salt"), b.str("unit"), b.dict("unit_kind")
	sid, vid, app, stream := b.str("session_id"), b.str("viewer_id"), b.dict("app"), b.dict("stream")
	arm, propensity, reason := b.dict("arm"), b.f64("propensity"), b.dict("reason")
	return rowsOf(b, func(x *schemas.Exposure, atMs int64) bool {
		mended := at(x.TimeUs, atMs)
		id.Append(x.ID)
		exp.add(x.Experiment)
		salt.add(x.Salt)
		unit.Append(x.Unit)
		kind.add(x.UnitKind)
		sid.Append(x.SessionID)
		vid.Append(x.ViewerID)
		app.add(x.App)
		stream.add(x.Stream)
		arm.add(x.Arm)
		propensity.Append(x.Propensity)
		reason.add(x.Reason)
		return mended
	})
}

func newEvents() builder {
	b := &recordBlock{}
	at := b.time()
	kind, id, app, stream, cdn, reason := b.dict("kind"), b.str("id"), b.dict("app"), b.dict("stream"), b.dict("cdn"), b.str("reason")
	detail := proto.NewMap[string, string](proto.NewLowCardinality[string](new(proto.ColStr)), new(proto.ColStr))
	b.put("detail", detail)
	return rowsOf(b, func(e *schemas.Event, atMs int64) bool {
		mended := at(e.TimeUs, atMs)
		kind.add(string(e.Kind))
		id.Append(e.ID)
		app.add(e.App)
		stream.add(e.Stream)
		cdn.add(e.CDN)
		reason.Append(e.Reason)
		kv := make([]proto.KV[string, string], 0, len(e.Detail))
		for _, k := range slices.Sorted(maps.Keys(e.Detail)) { // a repeated block is the same to the byte
			kv = append(kv, proto.KV[string, string]{Key: k, Value: e.Detail[k]})
		}
		detail.AppendKV(kv)
		return mended
	})
}
