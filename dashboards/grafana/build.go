// Package grafana turns the walls of package queries into Grafana dashboards:
// [Export] writes provisioning files, [Push] brings a running Grafana to the
// same state through its HTTP API.
//
// It promises stable uids, panel ids and bytes: the same walls give the same
// files, and pushing twice changes nothing. It was tested against the API as
// documented, played by a small server in the tests; a real Grafana could not be
// run where it was built.
//
// It leaves out whether SQL is right: package queries runs every panel, variable,
// annotation and alert on a real ClickHouse.
package grafana

//lint:file-ignore SA1019 the newer dashboard schema needs Grafana 12; files in this one load from 10 on.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/barchart"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/spillway-live/spillway/dashboards/queries"
)

// Names of what is made in Grafana.
const (
	// PluginType is the data source plugin that the queries are written for, version 4 or later.
	PluginType     = "grafana-clickhouse-datasource"
	DatasourceUID  = "spillway-clickhouse"
	DatasourceName = "Spillway"
	FolderUID      = "spillway"
	FolderTitle    = "Spillway"
	tag            = "spillway"
)

// query is a target of the ClickHouse plugin.
type query struct {
	RefID      string               `json:"refId"`
	Datasource common.DataSourceRef `json:"datasource"`
	EditorType string               `json:"editorType"`
	RawSQL     string               `json:"rawSql"`
	QueryType  string               `json:"queryType"`
	// Format is 0 for time series, which the plugin turns from long to wide, 1 for tables.
	Format int `json:"format"`
}

func (query) ImplementsDataqueryVariant() {}

// DataqueryType names the plugin.
func (query) DataqueryType() string { return PluginType }

// Validate finds nothing: SQL is checked on a server.
func (query) Validate() error { return nil }

// Equals compares two targets.
func (q query) Equals(o variants.Dataquery) bool {
	a, ok := o.(query)
	return ok && a.RefID == q.RefID && a.RawSQL == q.RawSQL && a.Format == q.Format
}

// built hands a finished value to an SDK builder that wants a builder.
type built[T any] struct{ v T }

func (b built[T]) Build() (T, error) { return b.v, nil }

func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr(PluginType), Uid: cog.ToPtr(DatasourceUID)}
}

// id is a panel's number: Grafana links to it, so it must not change when panels are added.
func id(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%1_000_000 + 1
}

// Dashboard models a wall.
func Dashboard(w queries.Wall) (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder(w.Title).Uid(w.UID).Description(w.Description).Tags(w.Tags).
		Time(w.From, "now").Refresh(w.Refresh).Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).Editable().
		Link(dashboard.NewDashboardLinkBuilder("Walls").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{tag}).
			AsDropdown(true).KeepTime(true).IncludeVars(true))
	for _, v := range w.Variables {
		if v.SQL == "" {
			b.WithVariable(dashboard.NewTextBoxVariableBuilder(v.Name).Label(v.Label).DefaultValue(dashboard.StringOrMap{String: cog.ToPtr("")}))
			continue
		}
		all := dashboard.VariableOption{
			Selected: cog.ToPtr(true), Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		}
		b.WithVariable(dashboard.NewQueryVariableBuilder(v.Name).Label(v.Label).Datasource(source()).
			Query(dashboard.StringOrMap{String: cog.ToPtr(v.SQL)}).Definition(v.SQL).
			Multi(true).IncludeAll(true).Current(all).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc))
	}
	for _, a := range w.Annotations {
		b.Annotation(dashboard.NewAnnotationQueryBuilder().Name(a.Name).Datasource(source()).Enable(true).IconColor(a.Color).Target(built[variants.Dataquery]{
			query{RefID: "Anno", Datasource: source(), EditorType: "sql", RawSQL: a.SQL, QueryType: "table", Format: 1},
		}))
	}
	for _, s := range w.Sections {
		b.WithRow(dashboard.NewRowBuilder(s.Title).Id(id(w.UID + "/" + s.Title)))
		for _, p := range s.Panels {
			model, err := panel(p)
			if err != nil {
				return dashboard.Dashboard{}, fmt.Errorf("model panel %s: %w", p.ID, err)
			}
			b.WithPanel(built[dashboard.Panel]{model})
		}
	}
	d, err := b.Build()
	if err != nil {
		return d, fmt.Errorf("model wall %s: %w", w.UID, err)
	}
	return d, nil
}

// JSON gives a wall as Grafana stores it: indented, ending in a newline.
func JSON(w queries.Wall) ([]byte, error) {
	d, err := Dashboard(w)
	if err != nil {
		return nil, err
	}
	return encode("wall "+w.UID, d)
}

func encode(what string, v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return out.Bytes(), nil
}

func panel(p queries.Panel) (dashboard.Panel, error) {
	var b cog.Builder[dashboard.Panel]
	format := 1
	switch p.Kind {
	case queries.TimeSeries:
		format = 0
		t := timeseries.NewPanelBuilder().LineWidth(2).FillOpacity(8).ShowPoints(common.VisibilityModeNever).
			Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeTable).Placement(common.LegendPlacementBottom).
				ShowLegend(true).Calcs([]string{"lastNotNull", "max"})).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).Min(0)
		if p.Bad > 0 {
			t = t.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
		}
		if name := seriesName(p); name != "" {
			t = t.DisplayName(name)
		}
		b = t
	case queries.Stat:
		b = stat.NewPanelBuilder().GraphMode(common.BigValueGraphModeNone).ColorMode(common.BigValueColorModeValue)
	case queries.Table:
		b = table.NewPanelBuilder().Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{}))
	case queries.Bar:
		b = barchart.NewPanelBuilder().XField(p.Columns[0].Name).Legend(common.NewVizLegendOptionsBuilder().ShowLegend(false).
			DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).Calcs([]string{}))
	default:
		return dashboard.Panel{}, fmt.Errorf("kind %q is unknown", p.Kind)
	}
	m, err := b.Build()
	if err != nil {
		return m, err
	}
	m.Id, m.Title = cog.ToPtr(id(p.ID)), cog.ToPtr(p.Title)
	if p.Description != "" {
		m.Description = cog.ToPtr(p.Description)
	}
	if p.MinInterval != "" {
		m.Interval = cog.ToPtr(p.MinInterval)
	}
	m.Datasource = cog.ToPtr(source())
	m.GridPos = &dashboard.GridPos{W: uint32(p.Width), H: uint32(p.Height)}
	q := query{RefID: "A", Datasource: source(), EditorType: "sql", RawSQL: p.SQL, QueryType: "table", Format: format}
	if format == 0 {
		q.QueryType = "timeseries"
	}
	m.Targets = []variants.Dataquery{q}
	if m.FieldConfig == nil {
		m.FieldConfig = dashboard.NewFieldConfigSource()
	}
	f := m.FieldConfig
	if p.Unit != "" {
		f.Defaults.Unit = cog.ToPtr(p.Unit)
	}
	f.Defaults.Thresholds = steps(p.Warn, p.Bad)
	for _, l := range p.Links {
		if p.Kind == queries.TimeSeries {
			to := link(l, func(column string) string { return "${__field.labels." + column + ":percentencode}" })
			f.Defaults.Links = append(f.Defaults.Links, dashboard.DashboardLink{Title: to["title"], Type: dashboard.DashboardLinkTypeLink, Url: cog.ToPtr(to["url"]), Tags: []string{}})
		}
	}
	for _, c := range p.Columns {
		if o := override(p, c); len(o.Properties) > 0 {
			f.Overrides = append(f.Overrides, o)
		}
	}
	return m, nil
}

// seriesName labels the lines of a time series by its text column.
func seriesName(p queries.Panel) string {
	label, values := "", 0
	for _, c := range p.Columns {
		switch c.Unit {
		case queries.UnitText:
			label = "${__field.labels." + c.Name + "}"
		case queries.UnitTime:
		default:
			values++
		}
	}
	if label != "" && values > 1 {
		return label + " ${__field.name}"
	}
	return label
}

func steps(warn, bad float64) *dashboard.ThresholdsConfig {
	t := &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: []dashboard.Threshold{{Color: "green"}}}
	if warn > 0 {
		t.Steps = append(t.Steps, dashboard.Threshold{Value: cog.ToPtr(warn), Color: "orange"})
	}
	if bad > 0 {
		t.Steps = append(t.Steps, dashboard.Threshold{Value: cog.ToPtr(bad), Color: "red"})
	}
	return t
}

// override gives a column its unit, its colour and its link.
func override(p queries.Panel, c queries.Column) dashboard.DashboardFieldConfigSourceOverrides {
	o := dashboard.DashboardFieldConfigSourceOverrides{Matcher: dashboard.MatcherConfig{Id: "byName", Options: c.Name}}
	set := func(name string, v any) {
		o.Properties = append(o.Properties, dashboard.DynamicConfigValue{Id: name, Value: v})
	}
	if c.Unit != "" && c.Unit != queries.UnitText && c.Unit != queries.UnitTime && c.Unit != p.Unit {
		set("unit", c.Unit)
	}
	if p.Kind == queries.Table && (c.Name == "stall_ratio" || c.Name == "load") {
		set("custom.cellOptions", map[string]any{"type": "color-text"})
	} else if p.Kind == queries.Table && c.Unit != queries.UnitText && c.Unit != queries.UnitTime {
		set("thresholds", steps(0, 0)) // the panel's are about the column in colour
	}
	for _, l := range p.Links {
		if c.Name == l.Column && p.Kind == queries.Table {
			set("links", []map[string]string{link(l, func(column string) string { return "${__data.fields." + column + ":percentencode}" })})
		}
	}
	return o
}

// link is a data link that opens another wall, of the same range, with its
// variables set to what value gives for a column.
func link(l queries.Link, value func(column string) string) map[string]string {
	u := "/d/" + l.Wall + "?${__url_time_range}"
	for _, name := range slices.Sorted(maps.Keys(l.Vars)) {
		u += "&var-" + name + "=" + value(l.Vars[name])
	}
	return map[string]string{"title": "Show " + strings.ReplaceAll(strings.TrimPrefix(l.Wall, "spillway-"), "-", " "), "url": u}
}
