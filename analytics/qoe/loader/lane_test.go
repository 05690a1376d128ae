package loader

import (
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

// TestBlocksGrowWithTheLoad: a block is closed early while little comes, and late while much does or more waits.
func TestBlocksGrowWithTheLoad(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	s := Settings{FlushEvery: time.Second, FlushMax: 4 * time.Second, FlushRows: 250_000, FlushBytes: 1 << 20}
	for name, c := range map[string]struct {
		rows, bytes, many int
		noRows, behind    bool
		closedAt          time.Duration // 0: at once
	}{
		"few rows":                          {rows: 10, many: 10_000, closedAt: time.Second},
		"many raw rows":                     {rows: 10_000, many: 10_000, closedAt: 4 * time.Second},
		"many rows of what views wait for":  {rows: 10_000, closedAt: time.Second},
		"more waits on the bus":             {rows: 10, behind: true, closedAt: 4 * time.Second},
		"as many rows as a block may have":  {rows: 250_000, many: 10_000, behind: true},
		"as many bytes as a block may have": {rows: 10, bytes: 1 << 20, behind: true},
		"nothing but ticks":                 {noRows: true, closedAt: idleRecord},
		"ticks as large as a block may be":  {noRows: true, bytes: 1 << 20},
	} {
		block := newSlices().(sliceBlock)
		block.seq = make(proto.ColUInt64, c.rows)
		l := &lane{Settings: s, many: c.many, block: block}
		l.b = gathering{messages: 1, bytes: c.bytes, first: begin, rowsSeen: !c.noRows, behind: c.behind}
		if c.closedAt > 0 && l.full(begin.Add(c.closedAt-time.Millisecond)) {
			t.Errorf("%s: closed before %v", name, c.closedAt)
		}
		if !l.full(begin.Add(c.closedAt)) {
			t.Errorf("%s: not closed after %v", name, c.closedAt)
		}
	}
}
