package token

import (
	"maps"
	"slices"

	"github.com/spillway-live/spillway/schemas/jsonout"
)

// append writes the claims as encoding/json does, without the closing brace.
func (c *Session) append(b []byte) []byte {
	b = jsonout.Open(b, "sid", c.SessionID)
	b = jsonout.Str(b, "app", c.App)
	b = jsonout.Str(b, "str", c.Stream)
	b = jsonout.StrIf(b, "vid", c.ViewerID)
	b = jsonout.StrIf(b, "cdn", c.CDN)
	b = boolIf(b, "pin", c.Pinned)
	b = jsonout.StrIf(b, "arms", c.Arms)
	b = jsonout.StrIf(b, "reg", c.Region)
	b = jsonout.StrIf(b, "isp", c.ISP)
	b = boolIf(b, "key", c.Keyed)
	b = jsonout.IntIf(b, "grp", int64(c.Group))
	b = jsonout.IntIf(b, "mv", c.MovedUnix)
	return jsonout.Int(b, "exp", c.ExpiresUnix)
}

func (c *Steering) append(b []byte) []byte {
	b = c.Session.append(b)
	b = jsonout.StrIf(b, "fmt", c.Format)
	for i, name := range c.Pathways {
		if i == 0 {
			b = append(jsonout.Name(b, "pw"), '[')
		} else {
			b = append(b, ',')
		}
		b = jsonout.String(b, name)
	}
	if len(c.Pathways) > 0 {
		b = append(b, ']')
	}
	b = jsonout.StrIf(b, "snt", c.Sent)
	b = jsonout.IntIf(b, "sat", c.SentUnix)
	b = boolIf(b, "try", c.Trying)
	if len(c.Penalties) > 0 {
		b = append(jsonout.Name(b, "pen"), '{')
		for i, cdn := range slices.Sorted(maps.Keys(c.Penalties)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(jsonout.String(b, cdn), ':')
			b = jsonout.Raw(b, c.Penalties[cdn])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func boolIf(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	return append(jsonout.Name(b, name), "true"...)
}
