package relay

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// place says where a message stands among those of its subject, whatever way it came.
type place struct {
	epoch uint32
	// home and homeSeq: where it was published.
	home    string
	homeSeq uint64
	rank    int // of its kind within an epoch, for messages of different homes
	seq     uint64
	inits   []string // init segments it needs
}

// placeOf reads a message that is number seq of the MEDIA of region.
func placeOf(region string, seq uint64, h nats.Header, data []byte) (place, error) {
	p := place{home: region, homeSeq: seq}
	if s := h.Get(schemas.HeaderHome); s != "" {
		var err error
		if p.home, p.homeSeq, err = parseRef(s); err != nil {
			return p, fmt.Errorf("header %s: %w", schemas.HeaderHome, err)
		}
	}
	switch kind := h.Get(schemas.HeaderKind); kind {
	case schemas.KindChunk:
		c, err := schemas.PeekChunk([]byte(h.Get(schemas.HeaderChunk)))
		if err != nil {
			return p, err
		}
		p.epoch, p.rank, p.seq = c.Epoch, 1, c.Seq
		for i := range c.Fragments {
			p.need(c.Fragments[i].InitID)
		}
	case schemas.KindEpoch:
		var e schemas.EpochOpen
		if err := json.Unmarshal(data, &e); err != nil {
			return p, fmt.Errorf("epoch: %w", err)
		}
		p.epoch = e.Epoch
		for i := range e.Tracks {
			p.need(e.Tracks[i].InitID)
		}
	case schemas.KindEnd:
		var e struct {
			Epoch uint32 `json:"epoch"`
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return p, fmt.Errorf("end: %w", err)
		}
		p.epoch, p.rank = e.Epoch, 2
	default:
		return p, fmt.Errorf("kind %q is unknown", kind)
	}
	return p, nil
}

// need notes an init segment; what cannot be one is not asked for.
func (p *place) need(id string) {
	if schemas.CheckInitID(id) == nil && len(p.inits) < schemas.MaxFragments {
		p.inits = append(p.inits, id)
	}
}

// after reports whether p comes after q on their subject. Of one home its
// sequence tells; else epoch, kind and number do.
func (p *place) after(q *place) bool {
	if p.epoch != q.epoch {
		return p.epoch > q.epoch
	}
	if p.home == q.home {
		return p.homeSeq > q.homeSeq
	}
	return cmp.Or(cmp.Compare(p.rank, q.rank), cmp.Compare(p.seq, q.seq)) > 0
}

// ref is <region>/<sequence>.
func ref(region string, seq uint64) string { return region + "/" + strconv.FormatUint(seq, 10) }

func parseRef(s string) (region string, seq uint64, err error) {
	region, n, _ := strings.Cut(s, "/")
	if err := schemas.CheckRegion(region); err != nil {
		return "", 0, err
	}
	if seq, err = strconv.ParseUint(n, 10, 64); err != nil || seq == 0 {
		return "", 0, fmt.Errorf("%.80q is not <region>/<sequence>", s)
	}
	return region, seq, nil
}
