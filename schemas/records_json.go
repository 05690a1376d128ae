package schemas

import "github.com/spillway-live/spillway/schemas/jsonout"

// AppendJSON appends the decision as encoding/json writes it, in a tenth of the time.
func (d *Decision) AppendJSON(b []byte) []byte {
	b = jsonout.Open(b, "id", d.ID)
	b = jsonout.Int(b, "time_us", d.TimeUs)
	b = jsonout.Str(b, "kind", string(d.Kind))
	b = jsonout.Str(b, "app", d.App)
	b = jsonout.Str(b, "stream", d.Stream)
	b = jsonout.Str(b, "session_id", d.SessionID)
	b = jsonout.StrIf(b, "viewer_id", d.ViewerID)
	b = jsonout.StrIf(b, "region", d.Region)
	b = jsonout.StrIf(b, "isp", d.ISP)
	b = jsonout.Str(b, "policy", d.Policy)
	b = jsonout.Str(b, "policy_version", d.PolicyVersion)
	b = jsonout.Name(b, "candidates")
	b = jsonout.List(b, d.Candidates, (*Candidate).appendJSON)
	b = jsonout.Str(b, "chosen", d.Chosen)
	b = jsonout.StrIf(b, "previous", d.Previous)
	b = jsonout.Num(b, "probability", d.Probability)
	b = jsonout.Str(b, "reason_code", d.ReasonCode)
	b = jsonout.Int(b, "input_age_ms", d.InputAgeMs)
	b = jsonout.IntIf(b, "cap_bps", d.CapBps)
	b = jsonout.IntIf(b, "queued_ms", d.QueuedMs)
	b = jsonout.IntIf(b, "group", int64(d.Group))
	b = jsonout.StrIf(b, "arms", d.Arms)
	return append(b, '}')
}

func (c *Candidate) appendJSON(b []byte) []byte {
	b = jsonout.Open(b, "cdn", c.CDN)
	b = jsonout.StrIf(b, "tier", c.Tier)
	b = jsonout.Num(b, "score", c.Score)
	b = jsonout.Int(b, "viewers", int64(c.Viewers))
	b = jsonout.NumIf(b, "load", c.Load)
	b = jsonout.NumIf(b, "harm", c.Harm)
	b = jsonout.StrIf(b, "excluded", c.Excluded)
	return append(b, '}')
}
