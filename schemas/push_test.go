package schemas

import (
	"strings"
	"testing"
)

func TestPushTargets(t *testing.T) {
	k := StreamKey{"live", "demo"}
	good := PushTarget{App: "live", URL: "rtmps://user:pw@push.example:443/app/{stream}-secret?auth=secret"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	u, err := good.Address(k)
	if err != nil || u.Path != "/app/demo-secret" || !good.Takes(k) || good.Takes(StreamKey{"other", "demo"}) {
		t.Errorf("address %v, %v", u, err)
	}
	if s := good.ShownURL(); s != "rtmps://push.example:443/app/..." {
		t.Errorf("shown as %s", s)
	}
	if (&PushTarget{App: "live", Stream: "a"}).Takes(k) || (&PushTarget{App: "live", Disabled: true}).Takes(k) {
		t.Error("a target takes what it should not")
	}
	for name, bad := range map[string]PushTarget{
		"no {stream}":    {App: "live", URL: "rtmp://h/app/secret"},
		"scheme":         {App: "live", Stream: "a", URL: "https://h/app/secret"},
		"no key":         {App: "live", Stream: "a", URL: "rtmp://h/secret"},
		"empty key":      {App: "live", Stream: "a", URL: "rtmp://h/app/secret/"},
		"control":        {App: "live", Stream: "a", URL: "rtmp://h/app/secret\x7f"},
		"no host":        {App: "live", Stream: "a", URL: "rtmp:///app/secret"},
		"name":           {App: "li.ve", Stream: "a", URL: "rtmp://h/app/secret"},
		"too long a URL": {App: "live", Stream: "a", URL: "rtmp://h/app/secret" + strings.Repeat("x", 2048)},
	} {
		if err := bad.Check(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParsePushTarget("x", []byte(`{"app":"live","streem":"secret"}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("unknown field: %v", err)
	}
	s := PushState{Target: "cdn", App: "live", Stream: "demo"}
	if _, err := ParsePushState("state.cdn.live.other", []byte(`{"target":"cdn","app":"live","stream":"demo"}`)); err == nil {
		t.Error("a state under another's key is taken")
	}
	if PushStateKey(s.Target, k) != "state.cdn.live.demo" {
		t.Error(PushStateKey(s.Target, k))
	}
}
