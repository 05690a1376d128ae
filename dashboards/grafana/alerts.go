package grafana

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/alerting"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/expr"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
)

// RuleGroup is the name of the group of alert rules in the folder.
const RuleGroup = "spillway"

// ruleInterval is how often Grafana asks the rules, s.
const ruleInterval = 30

// Rules models the alert rules that ask ClickHouse: one of Grafana's for each of
// held that has SQL, with its thresholds and times; one that is disabled is paused.
// The SQL gives only what is bad, a row for each subject, so each row is an alert of
// its own, and none is no alert. held nil: the rules as they come.
func Rules(held []rules.Rule) (alerting.RuleGroup, error) {
	g := alerting.RuleGroup{FolderUid: cog.ToPtr(FolderUID), Title: cog.ToPtr(RuleGroup), Interval: cog.ToPtr(alerting.Duration(ruleInterval))}
	if held == nil {
		held = rules.All(nil)
	}
	for _, a := range held {
		if a.SQL == "" {
			continue
		}
		r, err := rule(&a.Alert)
		if err != nil {
			return g, fmt.Errorf("model alert %s: %w", a.Name, err)
		}
		r.IsPaused = cog.ToPtr(a.Disabled) // said also where it is not, so that a push lets a rule go on
		g.Rules = append(g.Rules, r)
	}
	return g, nil
}

// expressions is the data source of what Grafana computes itself.
const expressions = "__expr__"

func rule(a *queries.Alert) (alerting.Rule, error) {
	ask := query{RefID: "A", Datasource: source(), EditorType: "sql", RawSQL: a.Firing(), QueryType: "table", Format: 1}
	fires, err := expr.NewTypeMathBuilder().RefId("B").Expression("is_number($A)").
		Datasource(common.DataSourceRef{Type: cog.ToPtr(expressions), Uid: cog.ToPtr(expressions)}).Build()
	if err != nil {
		return alerting.Rule{}, err
	}
	span := func(d time.Duration) *alerting.RelativeTimeRange {
		return &alerting.RelativeTimeRange{From: cog.ToPtr(alerting.Duration(d / time.Second)), To: cog.ToPtr(alerting.Duration(0))}
	}
	return alerting.Rule{
		Uid: cog.ToPtr("spillway-" + strings.ReplaceAll(a.Name, "_", "-")), Title: a.Title, FolderUID: FolderUID, RuleGroup: RuleGroup, OrgID: 1,
		Condition: "B", For: strconv.Itoa(int(a.For/time.Second)) + "s", KeepFiringFor: nil,
		NoDataState: alerting.RuleNoDataStateOK, ExecErrState: alerting.RuleExecErrStateError,
		Data: []alerting.Query{
			{RefId: cog.ToPtr("A"), DatasourceUid: cog.ToPtr(DatasourceUID), RelativeTimeRange: span(a.Window), Model: ask},
			{RefId: cog.ToPtr("B"), DatasourceUid: cog.ToPtr(expressions), RelativeTimeRange: span(a.Window), Model: expr.TypeMathOrTypeReduceOrTypeResampleOrTypeClassicConditionsOrTypeThresholdOrTypeSql{TypeMath: &fires}},
		},
		Labels: map[string]string{"app": "spillway", "rule": a.Name},
		Annotations: map[string]string{
			"summary": a.Title + ": {{ $labels.subject }}, {{ $values.A }}", "description": a.Description,
			"__dashboardUid__": a.Wall, "__panelId__": strconv.Itoa(int(id(a.Panel))),
		},
	}, nil
}

// alertingYAML is the provisioning file of the rules. Its values are JSON, which
// is YAML too. SQL and annotations are taken by Grafana as they stand: it puts
// no variables of its environment into them.
func alertingYAML(held []rules.Rule) ([]byte, error) {
	g, err := Rules(held)
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(g.Rules))
	for i, r := range g.Rules {
		b, err := json.Marshal(r)
		if err == nil {
			err = json.Unmarshal(b, &list[i])
		}
		if err != nil {
			return nil, fmt.Errorf("encode alert rule %s: %w", r.Title, err)
		}
		for _, k := range []string{"folderUID", "ruleGroup", "orgID"} { // said by the group
			delete(list[i], k)
		}
	}
	b, err := encode("alert rules", map[string]any{"apiVersion": 1, "groups": []any{map[string]any{
		"orgId": 1, "name": RuleGroup, "folder": FolderTitle, "interval": strconv.Itoa(ruleInterval) + "s", "rules": list,
	}}})
	return append([]byte("# Alert rules of Spillway, over the data source "+DatasourceUID+".\n"), b...), err
}
