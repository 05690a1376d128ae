package schemas_test

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// TestRefusalsNameTheField: each setting that is refused is refused by the name
// that it has in the JSON, and no other field is blamed with it.
func TestRefusalsNameTheField(t *testing.T) {
	app := func(v string) error { _, err := schemas.ParseAppSettings("live", []byte(v)); return err }
	cdn := func(v string) error {
		_, err := schemas.ParseCDN("a", []byte(strings.Replace(v, "{", `{"name":"a","base_url":"http://a","state":"active",`, 1)))
		return err
	}
	policy := func(v string) error {
		p := schemas.Policy{Name: "p", Kind: schemas.PolicyQuality}
		if err := schemas.UnmarshalStrict([]byte(v), &p); err != nil {
			return err
		}
		return p.Check()
	}
	share := func(v string) error {
		_, err := schemas.ParseShare("pub.x", []byte(strings.Replace(v, "{", `{"app":"home","stream":"door",`, 1)))
		return err
	}
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		parse  func(string) error
		value  string
		fields string // separated by blanks: all of them are wrong
	}{
		{cdn, `{"order":"x"}`, "order"}, {cdn, `{"ordre":1}`, "ordre"}, {cdn, `{"base_url":"ftp://x"}`, "base_url"}, {cdn, `{"state":"up"}`, "state"},
		{cdn, `{"capacity_viewers":-1}`, "capacity_viewers"}, {cdn, `{"capacity_bps":-1}`, "capacity_bps"}, {cdn, `{"spill_viewers":-1}`, "spill_viewers"}, {cdn, `{"stream_viewers":-1}`, "stream_viewers"},
		{cdn, `{"capacity_bps":-1,"spill_viewers":-2}`, "capacity_bps spill_viewers"},
		{cdn, `{"price_per_gb_micro_usd":-1}`, "price_per_gb_micro_usd"}, {cdn, `{"commit_gb":-1}`, "commit_gb"},
		{cdn, `{"price_tiers":[{"from_gb":0,"per_gb_micro_usd":1}]}`, "price_tiers[0].from_gb"},
		{cdn, `{"price_tiers":[{"from_gb":9,"per_gb_micro_usd":1},{"from_gb":9,"per_gb_micro_usd":1}]}`, "price_tiers[1].from_gb"},
		{cdn, `{"price_tiers":[{"from_gb":1,"per_gb_micro_usd":-1}]}`, "price_tiers[0].per_gb_micro_usd"},
		{cdn, `{"region_capacity":{"":{"viewers":1}}}`, "region_capacity"},
		{cdn, `{"region_capacity":{"eu":{"viewers":-1}}}`, `region_capacity["eu"].viewers`}, {cdn, `{"region_capacity":{"eu":{"bps":-1}}}`, `region_capacity["eu"].bps`},
		{cdn, `{"log_sample":2}`, "log_sample"}, {cdn, `{"token_scheme":"none"}`, "token_scheme"}, {cdn, `{"token_key":"k"}`, "token_key"},
		{cdn, `{"token_scheme":"nginx-path"}`, "token_key"},
		{policy, `{"name":"a b"}`, "name"}, {policy, `{"kind":"clever"}`, "kind"}, {policy, `{"kind":"expression"}`, "score"}, {policy, `{"score":"harm"}`, "score"},
		{policy, `{"kind":"expression","score":"` + long + `"}`, "score"}, {policy, `{"eligible":"` + long + `"}`, "eligible"},
		{policy, `{"weights":{"a":1}}`, "weights"}, {policy, `{"kind":"weighted","weights":{"a":-1}}`, "weights"}, {policy, `{"kind":"weighted","weights":{"a b":1}}`, "weights"},
		{policy, `{"kind":"weighted","weights":{"a":0}}`, "weights"}, {policy, `{"regions":{"a b":["eu"]}}`, "regions"}, {policy, `{"regions":{"a":[]}}`, "regions"},
		{policy, `{"explore":0.6}`, "explore"}, {policy, `{"hysteresis":-1}`, "hysteresis"}, {policy, `{"pad_from":2}`, "pad_from"}, {policy, `{"pad_factor":-1}`, "pad_factor"},
		{policy, `{"loss_usd_per_gb":-1}`, "loss_usd_per_gb"}, {policy, `{"dwell_s":-1}`, "dwell_s"},
		{app, `{"second_publisher":"both"}`, "second_publisher"}, {app, `{"steering":"x"}`, "steering"}, {app, `{"policy":"a@0"}`, "policy"},
		{app, `{"params":{"policy":"a"}}`, "params.policy"}, {app, `{"params":{"overflow_at":"9"}}`, "params.overflow_at"}, {app, `{"publish_hook_url":"ftp://h"}`, "publish_hook_url"},
		{app, `{"ladder":[{"name":"a b","height":64,"bitrate_bps":20000}]}`, "ladder[0].name"}, {app, `{"ladder":[{"name":"a","height":65,"bitrate_bps":20000}]}`, "ladder[0].height"},
		{app, `{"ladder":[{"name":"a","height":64,"bitrate_bps":1}]}`, "ladder[0].bitrate_bps"},
		{app, `{"encryption":{"scheme":"cenc","key_url":"file:///k"}}`, "encryption.scheme"}, {app, `{"encryption":{"scheme":"cbcs"}}`, "encryption.key_url"},
		{app, `{"when_full":{"steps":["queue","cap"]}}`, "when_full.steps"}, {app, `{"when_full":{"steps":[],"cap_bps":1}}`, "when_full.cap_bps"},
		{app, `{"when_full":{"steps":[],"cap_from":2}}`, "when_full.cap_from"}, {app, `{"dvr_sec":-1}`, "dvr_sec"},
		{app, `{"pictures":{"interval_ms":1}}`, "pictures.interval_ms"}, {app, `{"pictures":{"width":1}}`, "pictures.width"}, {app, `{"pictures":{"keep_sec":-1}}`, "pictures.keep_sec"},
		{app, `{"pictures":{"frozen_ms":-2}}`, "pictures.frozen_ms"}, {app, `{"pictures":{"black_ms":-2}}`, "pictures.black_ms"},
		{app, `{"publisher_policy":{}}`, "publisher_policy.behind_share"},
		{app, `{"review":[{"label":"a b"}]}`, "review[0] label"}, {app, `{"review":[{"label":"a","min_score":2}]}`, "review[0] min_score"},
		{app, `{"review":[{"label":"a","hide":true,"hide_sec":-1}]}`, "review[0] hide_sec"},
		{share, `{"until":-1}`, "until"}, {share, `{"withdrawn":-1}`, "withdrawn"},
	} {
		err := c.parse(c.value)
		if err == nil {
			t.Errorf("%.120s is taken", c.value)
			continue
		}
		for f := range strings.FieldsSeq(c.fields) {
			if !strings.Contains(err.Error(), f) {
				t.Errorf("%.120s: %v does not name %s", c.value, err, f)
			}
		}
		// What the record has besides is not blamed.
		for _, other := range []string{"capacity_viewers", "capacity_bps", "spill_viewers", "stream_viewers", "price_per_gb_micro_usd", "commit_gb", "eligible", "withdrawn", "until"} {
			if regexp.MustCompile(`\b`+other+`\b`).MatchString(err.Error()) && !strings.Contains(c.fields, other) {
				t.Errorf("%.120s: %v blames %s", c.value, err, other)
			}
		}
	}
	p := schemas.Policy{Name: "p", Kind: schemas.PolicyQuality, Hysteresis: math.NaN()}
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "hysteresis") {
		t.Errorf("not a number: %v", err)
	}
}
