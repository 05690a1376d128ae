package console

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
)

// ranges are the spans that a wall can be seen over, and the steps of its time series.
var ranges = map[string]struct{ span, step time.Duration }{
	"15m": {15 * time.Minute, 10 * time.Second}, "1h": {time.Hour, time.Minute}, "6h": {6 * time.Hour, 2 * time.Minute},
	"24h": {24 * time.Hour, 10 * time.Minute}, "7d": {7 * 24 * time.Hour, time.Hour}, "30d": {30 * 24 * time.Hour, 3 * time.Hour},
}

// Bounds of what is asked and answered.
const (
	maxRows   = 20_000
	maxValues = 20
	maxValue  = 256
)

func (c *Console) wall(uid string) *queries.Wall {
	for _, w := range queries.Walls(*c.s.Thresholds) {
		if w.UID == uid {
			return &w
		}
	}
	return nil
}

// wallRoutes adds the same walls as Grafana's, for those without it.
func (c *Console) wallRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/walls", func(w http.ResponseWriter, _ *http.Request) {
		type entry struct {
			UID, Title, Description string
		}
		var out []entry
		for _, x := range queries.Walls(*c.s.Thresholds) {
			out = append(out, entry{x.UID, x.Title, x.Description})
		}
		answer(w, map[string]any{"walls": out})
	})
	mux.HandleFunc("GET /v1/walls/{key}", func(w http.ResponseWriter, r *http.Request) {
		x := c.wall(r.PathValue("key"))
		if x == nil {
			refuse(w, http.StatusNotFound, "there is no such wall: see /v1/walls")
			return
		}
		answer(w, x)
	})
	mux.HandleFunc("GET /v1/walls/{key}/{panel}", c.servePanel)
}

// servePanel answers a panel's rows over ?range=, with ?app=, ?cdn= and so on, each any number of times.
func (c *Console) servePanel(w http.ResponseWriter, r *http.Request) {
	x := c.wall(r.PathValue("key"))
	var p *queries.Panel
	if x != nil {
		panels := x.Panels()
		if i := slices.IndexFunc(panels, func(p queries.Panel) bool { return p.ID == r.PathValue("panel") }); i >= 0 {
			p = &panels[i]
		}
	}
	if p == nil {
		refuse(w, http.StatusNotFound, "there is no such panel: see /v1/walls")
		return
	}
	q := r.URL.Query()
	name := q.Get("range")
	span, ok := ranges[name]
	if !ok {
		refuse(w, http.StatusBadRequest, "range must be 15m, 1h, 6h, 24h, 7d or 30d")
		return
	}
	vars, key, err := variablesOf(x, q)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	c.hub.touch(time.Now())
	keep := min(max(span.step/4, 2*time.Second), 30*time.Second)
	c.reply(w, r, "panel "+x.UID+" "+p.ID+" "+name+" "+key, keep, func(ctx context.Context) (any, error) {
		to := time.Now().Truncate(time.Second)
		return c.table(ctx, p.SQL, vars, to.Add(-span.span), to, span.step)
	})
}

// variablesOf reads the values of a wall's variables; key is the same for the same values.
func variablesOf(x *queries.Wall, q url.Values) (queries.Vars, string, error) {
	vars := queries.All()
	used := url.Values{}
	for _, v := range x.Variables {
		given := q[v.Name]
		if len(given) > maxValues {
			return nil, "", fmt.Errorf("at most %d values of %s are allowed", maxValues, v.Name)
		}
		for _, s := range given {
			if len(s) > maxValue {
				return nil, "", fmt.Errorf("a value of %s has more than %d bytes", v.Name, maxValue)
			}
		}
		switch {
		case len(given) > 0:
			vars[v.Name], used[v.Name] = queries.Only(given...), given
		case v.SQL == "":
			vars[v.Name] = queries.Only("")
		}
	}
	return vars, used.Encode(), nil
}

// table is an answer of ClickHouse: times are Unix milliseconds, what is not known null, infinity "inf".
type table struct {
	FromMs  int64    `json:"from_ms"`
	ToMs    int64    `json:"to_ms"`
	StepMs  int64    `json:"step_ms"`
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
	// Cut says that there were more rows than are answered.
	Cut bool `json:"cut,omitempty"`
}

func (c *Console) table(ctx context.Context, sql string, vars queries.Vars, from, to time.Time, step time.Duration) (*table, error) {
	q, err := queries.Expand(sql, vars, from, to, step)
	if err != nil {
		return nil, err
	}
	rows, err := c.db.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := &table{FromMs: from.UnixMilli(), ToMs: to.UnixMilli(), StepMs: step.Milliseconds(), Columns: rows.Columns(), Rows: [][]any{}}
	types := rows.ColumnTypes()
	for rows.Next() {
		if len(out.Rows) == maxRows {
			out.Cut = true
			break
		}
		row := make([]any, len(types))
		for i, t := range types {
			row[i] = reflect.New(t.ScanType()).Interface()
		}
		if err := rows.Scan(row...); err != nil {
			return nil, err
		}
		for i := range row {
			row[i] = cell(row[i])
		}
		out.Rows = append(out.Rows, row)
	}
	return out, rows.Err()
}

// cell makes a scanned value one for JSON.
func cell(v any) any {
	r := reflect.ValueOf(v)
	for r.Kind() == reflect.Pointer {
		if r.IsNil() {
			return nil
		}
		r = r.Elem()
	}
	switch x := r.Interface().(type) {
	case time.Time:
		return x.UnixMilli()
	case float64:
		return num(x)
	case float32:
		return num(float64(x))
	case int64, uint64: // sums beyond 2^53 are shown, not counted with
		if r.CanInt() && math.Abs(float64(r.Int())) > 1<<53 || r.CanUint() && r.Uint() > 1<<53 {
			return fmt.Sprint(x)
		}
		return x
	case string:
		return strings.ToValidUTF8(x, "\uFFFD")
	default:
		return x
	}
}
