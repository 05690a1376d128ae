package schemas_test

import (
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

func TestEntriesOfTheSettingsBuckets(t *testing.T) {
	app := func(k, v string) error { _, err := schemas.ParseAppSettings(k, []byte(v)); return err }
	source := func(k, v string) error { _, err := schemas.ParseSource(k, []byte(v)); return err }
	share := func(k, v string) error { _, err := schemas.ParseShare(k, []byte(v)); return err }
	for _, c := range []struct {
		name       string
		parse      func(k, v string) error
		key, value string
		want       string // in the error; empty: none
	}{
		{"empty", app, "live", `{}`, ""},
		{"of a stream", app, "live.cam", `{"private":true,"dvr_sec":3600}`, ""},
		{"all", app, "live", `{"second_publisher":"refuse","publish_hook_url":"https://h/x","ladder":[{"name":"480p","height":480,"bitrate_bps":800000}],"encryption":{"scheme":"cbcs","key_url":"file:///k","rotate_segments":30}}`, ""},
		{"key", app, "a.b.c", `{}`, "stream"},
		{"unknown field", app, "live", `{"privat":true}`, "privat"},
		{"rule", app, "live", `{"second_publisher":"both"}`, "second_publisher"},
		{"hook", app, "live", `{"publish_hook_url":"ftp://h"}`, "publish_hook_url"},
		{"odd height", app, "live", `{"ladder":[{"name":"a","height":481,"bitrate_bps":800000}]}`, "ladder[0].height"},
		{"rate", app, "live", `{"ladder":[{"name":"a","height":480}]}`, "ladder[0].bitrate_bps"},
		{"twice", app, "live", `{"ladder":[{"name":"a","height":480,"bitrate_bps":800000},{"name":"a","height":240,"bitrate_bps":800000}]}`, "ladder[1].name"},
		{"the source's name", app, "live", `{"ladder":[{"name":"src","height":480,"bitrate_bps":800000}]}`, "ladder[0].name"},
		{"scheme", app, "live", `{"encryption":{"scheme":"cenc","key_url":"file:///k"}}`, "encryption.scheme"},
		{"no keys", app, "live", `{"encryption":{"scheme":"cbcs"}}`, "encryption.key_url"},
		{"dvr", app, "live", `{"dvr_sec":-1}`, "dvr_sec"},
		{"camera", source, "home.door", `{"url":"rtsp://u:p@cam:554/1","on_demand":true}`, ""},
		{"camera's scheme", source, "home.door", `{"url":"http://u:secret@cam/1"}`, "url"},
		{"camera's grace", source, "home.door", `{"url":"rtsp://cam/1","grace_sec":-1}`, "grace_sec"},
		{"camera's transport", source, "home.door", `{"url":"rtsp://cam/1","transport":"sctp"}`, "transport"},
		{"camera's key", source, "home", `{"url":"rtsp://cam/1"}`, "home"},
		{"share", share, "pub.x", `{"app":"home","stream":"door","until":1}`, ""},
		{"share of itself", share, "home.door", `{"app":"home","stream":"door"}`, "itself"},
		{"share of nothing", share, "pub.x", `{}`, "name"},
	} {
		err := c.parse(c.key, c.value)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v does not name %s", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error holds a password: %v", c.name, err)
		}
	}
}

func TestAStreamsOwnSettingsReplaceItsApplications(t *testing.T) {
	table := map[string]*schemas.AppSettings{"live": {Private: true, DVRSec: 60}, "live.open": {}}
	get := func(k string) (*schemas.AppSettings, bool) { a, ok := table[k]; return a, ok }
	for stream, private := range map[string]bool{"cam": true, "open": false} {
		if a := schemas.SettingsOf(schemas.StreamKey{App: "live", Stream: stream}, get); a.Private != private {
			t.Errorf("%s: %+v", stream, a)
		}
	}
	if a := schemas.SettingsOf(schemas.StreamKey{App: "other", Stream: "x"}, get); a == nil || a.Private {
		t.Errorf("without an entry: %+v", a)
	}
}
