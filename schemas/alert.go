package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"
)

// Buckets of alerts.
const (
	// BucketAlerts maps AlertKey(rule, subject) to Alert: what is open, and what was resolved of late.
	BucketAlerts = "alerts"
	// BucketAlertRules maps a rule's name to AlertRule: what operators changed of it.
	BucketAlertRules = "alertrules"
	// AlertRuleDefaults is the key of the entry whose webhook and times hold for
	// every rule that has none of its own.
	AlertRuleDefaults = "defaults"
	// AlertRuleRaised begins the key of an entry about what others raise under a rule
	// of their own: raised-NAME. What it leaves alone is that of the rule raised.
	AlertRuleRaised = "raised-"
)

// AlertKept is how long an alert stays in [BucketAlerts] after it was stored last.
const AlertKept = 7 * 24 * time.Hour

// States of an alert.
const (
	AlertPending  = "pending"  // the condition holds, not for long enough yet
	AlertOpen     = "open"     // told
	AlertResolved = "resolved" // over, told
)

// Alert is one rule about one subject. There is at most one entry of both, so at
// most one open alert.
type Alert struct {
	// Rule is the name of the rule, Subject what it is about in words that are
	// stable: a CDN's name, app/stream, a role, a consumer.
	Rule    string `json:"rule"`
	Subject string `json:"subject"`
	// App, Stream and CDN name the subject where it is one.
	App    string `json:"app,omitempty"`
	Stream string `json:"stream,omitempty"`
	CDN    string `json:"cdn,omitempty"`
	// By is the rule of whoever raised it, where Rule is raised.
	By    string `json:"by,omitempty"`
	State string `json:"state"`
	// SinceUs is when the condition began to hold, OpenedUs when it was told,
	// SeenUs when it held last, QuietUs since when it no longer holds (0: it
	// holds), ResolvedUs when it was over. Unix microseconds.
	SinceUs    int64 `json:"since_us"`
	OpenedUs   int64 `json:"opened_us,omitempty"`
	SeenUs     int64 `json:"seen_us"`
	QuietUs    int64 `json:"quiet_us,omitempty"`
	ResolvedUs int64 `json:"resolved_us,omitempty"`
	// Value is the newest measurement and Threshold what it is held against, in Unit.
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
	Unit      string  `json:"unit,omitempty"`
	// Reason says in plain words what is wrong.
	Reason string `json:"reason"`
	// Page is the path of the console's page that explains it.
	Page string `json:"page"`
	// Link is the whole address of Page, in what webhooks are posted; empty where the
	// role was not told how people reach the console.
	Link string `json:"link,omitempty"`
	// Told says whether event and webhook of the newest State (open or resolved) went out.
	Told bool `json:"told,omitempty"`
}

// AlertKey is the key of an alert in [BucketAlerts]. A subject may be any text, so it is hashed.
func AlertKey(rule, subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return rule + "." + hex.EncodeToString(sum[:8])
}

// ParseAlert reads an entry of the bucket alerts.
func ParseAlert(key string, value []byte) (*Alert, error) {
	var a Alert
	if err := json.Unmarshal(value, &a); err != nil {
		return nil, err
	}
	if err := CheckName("alert rule", a.Rule); err != nil {
		return nil, err
	}
	if AlertKey(a.Rule, a.Subject) != key {
		return nil, fmt.Errorf("the alert under key %s is %s of %q", key, a.Rule, a.Subject)
	}
	return &a, nil
}

// AlertRule is what an operator changed of a rule; zero values leave what the rule comes with.
type AlertRule struct {
	Name string `json:"name"`
	// Disabled rules open nothing, and what they opened is resolved.
	Disabled bool `json:"disabled,omitempty"`
	// Threshold is the value from which on the rule's condition holds, in the rule's own unit.
	Threshold float64 `json:"threshold,omitempty"`
	// Factor is by how much a value must exceed what it is compared with, where the rule compares.
	Factor float64 `json:"factor,omitempty"`
	// ForSec is how long the condition must hold, ClearSec how long it must not, seconds.
	ForSec   int `json:"for_s,omitempty"`
	ClearSec int `json:"clear_s,omitempty"`
	// WebhookURL is posted an Alert when it opens and when it is resolved.
	WebhookURL string `json:"webhook_url,omitempty"`
}

// maxAlertSec bounds the times of a rule: a day.
const maxAlertSec = 86400

// Check names the field that is wrong.
func (r *AlertRule) Check() error {
	if err := CheckName("alert rule", r.Name); err != nil {
		return err
	}
	for name, v := range map[string]float64{"threshold": r.Threshold, "factor": r.Factor} {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return fmt.Errorf("%s %v of alert rule %s is not a number of 0 or more", name, v, r.Name)
		}
	}
	if r.Factor != 0 && r.Factor < 1 {
		return fmt.Errorf("factor %v of alert rule %s is below 1", r.Factor, r.Name)
	}
	for name, v := range map[string]int{"for_s": r.ForSec, "clear_s": r.ClearSec} {
		if v < 0 || v > maxAlertSec {
			return fmt.Errorf("%s %d of alert rule %s is not 0 to %d", name, v, r.Name, maxAlertSec)
		}
	}
	if r.WebhookURL != "" && !isWebURL(r.WebhookURL) {
		return fmt.Errorf("webhook_url of alert rule %s is not an http or https URL of at most 1024 bytes", r.Name)
	}
	return nil
}

// ShownWebhook is the webhook without what may be secret in it: scheme and host.
func (r *AlertRule) ShownWebhook() string {
	u, err := url.Parse(r.WebhookURL)
	if err != nil || r.WebhookURL == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host + "/…"
}

// ParseAlertRule reads and checks an entry of the bucket alertrules.
func ParseAlertRule(key string, value []byte) (*AlertRule, error) {
	var r AlertRule
	if err := UnmarshalStrict(value, &r); err != nil {
		return nil, err
	}
	if r.Name == "" {
		r.Name = key
	}
	if r.Name != key {
		return nil, fmt.Errorf("the alert rule under key %s is named %s", key, r.Name)
	}
	return &r, r.Check()
}

// isWebURL says whether s can be posted to.
func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && len(s) <= 1024 && !strings.ContainsAny(s, " \t\r\n")
}
