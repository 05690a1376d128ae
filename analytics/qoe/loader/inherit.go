package loader

import (
	"context"
	"fmt"
)

// inherit begins a lane's ledger where the lanes end that had its subjects before. What the last block of each may
// not have brought into ClickHouse is repeated first, as that lane. The lane then reads on behind the one that is
// least far, and passes over what those that are further have loaded.
func (l *lane) inherit(ctx context.Context) error {
	var p Position
	ends := map[string]uint64{} // by subject
	for i, s := range l.before {
		old := &lane{Settings: l.Settings, laneSpec: s, m: l.m, kv: l.kv}
		if err := old.finish(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		for _, subject := range s.subjects {
			ends[subject] = old.pos.To
		}
		if i == 0 || old.pos.To < p.To {
			p.To = old.pos.To
		}
		p.TotalRows += old.pos.TotalRows
		p.DuplicateRows += old.pos.DuplicateRows
		p.DuplicateBatches += old.pos.DuplicateBatches
		p.DeadMessages += old.pos.DeadMessages
	}
	for subject, to := range ends {
		if to > p.To {
			if p.Loaded == nil {
				p.Loaded = map[string]uint64{}
			}
			p.Loaded[subject] = to
		}
	}
	if p.To == 0 && p.Loaded == nil {
		return nil // a ledger that begins
	}
	p.From, p.Done = p.To, true
	l.Logger.Info("lane goes on where others ended", "lane", l.name, "after_seq", p.To, "rows", p.TotalRows)
	return l.record(ctx, p)
}

// finish brings what the lane recorded into ClickHouse and says so in the ledger.
func (l *lane) finish(ctx context.Context) (err error) {
	l.ins.ClickHouse = l.ClickHouse
	defer l.ins.close()
	if l.pos, l.rev, err = readPosition(ctx, l.kv, l.name); err != nil || l.pos.To == 0 || l.pos.Done {
		return err
	}
	l.block = l.newBlock()
	l.after = l.pos.Producers
	defer func() {
		if l.in != nil {
			l.in.Close()
		}
	}()
	if err := l.repeat(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	p := l.pos
	p.Done, p.Producers = true, l.after
	if err := l.record(ctx, p); err != nil {
		return fmt.Errorf("end lane %s: %w", l.name, err)
	}
	return nil
}
