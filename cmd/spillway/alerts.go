package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/alerts"
	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// alertsOptions reads the DSN of alerts. A connection is made within the time of a question, if dial_timeout in it does
// not say otherwise: the driver waits for the first answer of a server as long as for the connection, whatever the
// question's own limit is.
func alertsOptions(dsn string) (*chgo.Options, error) {
	o, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, alerts.QueryTimeout)
	return o, nil
}

// alertsRole watches by rules; it reads the ClickHouse of dsn. console is how people reach the console; empty: not
// known. every 0: the default.
func (d *deps) alertsRole(dsn, console string, every time.Duration) (role, error) {
	o, err := alertsOptions(dsn)
	if err != nil {
		return role{}, err
	}
	conn, err := openOptions(o)
	if err != nil {
		return role{}, err
	}
	s := alerts.Settings{JS: d.js, Conn: d.js.Conn(), ClickHouse: conn, Every: every, ConsoleURL: console, Logger: d.log("alerts"), Registerer: d.reg}
	return role{"alerts", func(ctx context.Context) error {
		defer conn.Close()
		return s.Run(ctx)
	}}, nil
}

func (c *commands) alertsCommand() *ffcli.Command {
	f := &roleFlags{}
	var every time.Duration
	var console string
	return c.command("alerts", "", "watch CDNs, publishers and the pipeline by rules, and tell webhooks; reads ClickHouse", 0, func(fs *flag.FlagSet) {
		f.register(fs)
		fs.DurationVar(&every, "every", 10*time.Second, "time between looks")
		fs.StringVar(&console, "console-url", "", consoleURLHelp)
	}, func(ctx ctx, _ []string) error {
		if every < time.Second {
			return fmt.Errorf("--every %v: give at least a second", every)
		}
		if err := checkConsoleURL(console); err != nil {
			return err
		}
		dsn, err := f.clickhouseURL()
		if err != nil {
			return err
		}
		if r, err := findRun(f.data); err == nil {
			console = cmp.Or(console, r.Console)
		}
		return c.serveRole(ctx, f, "alerts", func(d *deps) ([]role, error) {
			r, err := d.alertsRole(dsn, console, every)
			return []role{r}, err
		})
	})
}

const consoleURLHelp = "base `URL` of the console as people reach it, for links in webhooks of alerts (default: that of the running \"spillway up\")"

// checkConsoleURL refuses what no link can begin with.
func checkConsoleURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("--console-url %q is not like https://console.example.com", s)
	}
	return nil
}

// startAlerts comes behind the console, whose address its webhooks hold.
func (s *system) startAlerts(ctx) error {
	reader := s.f.clickhouse
	if s.ch != nil {
		reader = s.ch.NativeURL(clickhouse.Analyst)
	}
	r, err := s.d.alertsRole(reader, cmp.Or(s.f.consoleURL, s.run.Console), 0)
	if err == nil {
		s.add(r)
	}
	return err
}

// ruleKind is what operators change of alert rules.
var ruleKind = kind[schemas.AlertRule]{
	what: "changed alert rule", bucket: schemas.BucketAlertRules, parse: schemas.ParseAlertRule, key: ruleKey,
	heads: "RULE\tSTATE\tTHRESHOLD\tFACTOR\tFOR\tCLEAR\tWEBHOOK",
	row: func(r *schemas.AlertRule) string {
		state := "on"
		if r.Disabled {
			state = "off"
		}
		return fmt.Sprintf("%s\t%g\t%g\t%d s\t%d s\t%s", state, r.Threshold, r.Factor, r.ForSec, r.ClearSec, r.ShownWebhook())
	},
	hide: func(r *schemas.AlertRule) { r.WebhookURL = r.ShownWebhook() },
}

// ruleKey refuses rules that there are not.
func ruleKey(name string) (string, error) {
	known := []string{schemas.AlertRuleDefaults}
	for _, a := range queries.Alerts() {
		known = append(known, a.Name)
	}
	if by, ok := strings.CutPrefix(name, schemas.AlertRuleRaised); ok {
		return name, schemas.CheckName("rule of who raises alerts", by)
	}
	known = append(known, schemas.AlertRuleRaised+"NAME")
	if !slices.Contains(known, name) {
		return "", fmt.Errorf("there is no alert rule %q; there are: %s", name, strings.Join(known, ", "))
	}
	return name, nil
}

// alertKind are the alerts themselves, which only the role writes.
var alertKind = kind[schemas.Alert]{
	what: "alert", bucket: schemas.BucketAlerts, parse: schemas.ParseAlert,
	heads: "KEY\tSTATE\tSINCE\tRULE\tSUBJECT\tWHY",
	row: func(a *schemas.Alert) string {
		return fmt.Sprintf("%s\t%s\t%s\t%q\t%q", a.State, time.UnixMicro(a.SinceUs).UTC().Format(time.RFC3339), a.Rule, a.Subject, a.Reason)
	},
}

// alertCommand is about alerts and their rules.
func (c *commands) alertCommand() *ffcli.Command {
	var b, own base
	return c.parent("alert", "alerts that are open, and the rules that open them",
		alertKind.list(c, &b, "alert list", "alerts that are open, or were in the last week"),
		c.alertRules(),
		c.alertSet(),
		ruleKind.remove(c, &own, "alert reset", "RULE", "forget what was changed of a rule"),
	)
}

// rulesAsHeld gives every rule with what operators changed in it, and those of others that were changed.
func rulesAsHeld(ctx ctx, r *registry.Registry[schemas.AlertRule]) ([]rules.Rule, error) {
	l, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	changed := map[string]*schemas.AlertRule{}
	for _, e := range l {
		if e.Err != nil {
			return nil, e.Err
		}
		changed[e.Key] = e.Value
	}
	held := rules.All(changed)
	for _, x := range held {
		if x.Name != queries.AlertRaised {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(changed)) {
			if by, ok := strings.CutPrefix(key, schemas.AlertRuleRaised); ok {
				own := x.Of(by, changed)
				own.Name = key
				held = append(held, own)
			}
		}
	}
	return held, nil
}

// alertRules lists the rules as they hold, with what was changed in them.
func (c *commands) alertRules() *ffcli.Command {
	var b base
	return c.command("alert rules", "", "the rules as they hold, and what they mean", 0, b.register, func(ctx ctx, _ []string) error {
		return ruleKind.with(ctx, &b, func(r *registry.Registry[schemas.AlertRule]) error {
			held, err := rulesAsHeld(ctx, r)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, ruleKind.heads+"\tMEANING")
			for _, r := range held {
				shown := schemas.AlertRule{
					Name: r.Name, Disabled: r.Disabled, Threshold: r.Threshold, Factor: r.Factor,
					ForSec: int(r.For / time.Second), ClearSec: int(r.Clear / time.Second), WebhookURL: r.WebhookURL,
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, ruleKind.row(&shown), r.Description)
			}
			return w.Flush()
		})
	})
}

// alertSet changes a rule.
func (c *commands) alertSet() *ffcli.Command {
	var b base
	var n schemas.AlertRule
	var flags *flag.FlagSet
	var hold, clear time.Duration
	return c.command("alert set", "RULE", "change what is given of a rule; \"defaults\" is about all: their webhook and times; \"raised-NAME\" about what others raise under their rule NAME", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		flags = fs
		fs.BoolVar(&n.Disabled, "disabled", false, "open nothing, and resolve what is open")
		fs.Float64Var(&n.Threshold, "threshold", 0, "value from which on (publisher_frozen: under which) it is bad; 0: as the rule comes")
		fs.Float64Var(&n.Factor, "factor", 0, "how many times the past or the others a value must be, where the rule compares; 0: as the rule comes")
		fs.DurationVar(&hold, "for", 0, "how long it must be bad; 0: as the rule comes")
		fs.DurationVar(&clear, "clear", 0, "how long it must not be bad before the alert is over; 0: as the rule comes")
		fs.StringVar(&n.WebhookURL, "webhook", "", "`URL` that alerts are posted to; empty: that of the rule \"defaults\"")
	}, func(ctx ctx, a []string) error {
		key, err := ruleKey(a[0])
		if err != nil {
			return err
		}
		if hold%time.Second != 0 || clear%time.Second != 0 {
			return errors.New("--for and --clear: whole seconds are kept")
		}
		set := given(flags)
		return ruleKind.with(ctx, &b, func(r *registry.Registry[schemas.AlertRule]) error {
			_, err := r.Edit(ctx, key, func(v *schemas.AlertRule, _ bool) error {
				v.Name = key
				for name, take := range map[string]func(){
					"disabled": func() { v.Disabled = n.Disabled }, "threshold": func() { v.Threshold = n.Threshold }, "factor": func() { v.Factor = n.Factor },
					"for": func() { v.ForSec = int(hold / time.Second) }, "clear": func() { v.ClearSec = int(clear / time.Second) }, "webhook": func() { v.WebhookURL = n.WebhookURL },
				} {
					if set[name] {
						take()
					}
				}
				return nil
			})
			return err
		})
	})
}
