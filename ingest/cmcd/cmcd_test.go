package cmcd

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, in, want string // want is the version 2 text
		issues         string // key:reason, in order
		sloppy         bool
	}{
		{name: "spaces around commas", in: "  bl=(2000) ,  br=(320;v) ,sn=1 ", want: "bl=(2000),br=(320;v),sn=1,v=2"},
		{name: "unordered", in: "v=2,ts=5,e=ps,sta=p", want: "e=ps,sta=p,ts=5,v=2"},
		{name: "upper-case keys", in: `SID="a",Bl=(700),STA=P`, want: `bl=(700),sid="a",sta=p,v=2`, sloppy: true},
		{name: "duplicates, last wins", in: "sn=1,sn=2,bl=(100;v),bl=300", want: "bl=(300),sn=2,v=2"},
		{name: "bad duplicate does not erase", in: "sn=7,sn=x", want: "sn=7,v=2", issues: "sn:wrong_type"},
		{name: "scalars for lists", in: "br=400,ec=27,bl=100;v", want: `bl=(100;v),br=(400),ec=("27"),v=2`},
		{name: "lists for scalars", in: `d=(2000),cid=("x"),sta=(p),su=(?1)`, want: `cid="x",d=2000,sta=p,su,v=2`},
		{name: "decimals for integers", in: "tpb=(1266.234),ltc=2031.0,d=1.5", want: "d=2,ltc=2031,tpb=(1266),v=2"},
		{name: "booleans", in: "bs=?0,bg=?1,su,nr=true", want: "bg,bs=?0,nr,su,v=2"},
		{name: "boolean as number", in: "bs=0,su=1,nr=7", want: "bs=?0,su,v=2", issues: "nr:wrong_type"},
		{name: "labels", in: "br=(400;v 64;a),bl=(0;a),mtp=(100;v;a),tb=(5;av 7)", want: "bl=(0;a),br=(400;v 64;a),mtp=(100;v 100;a),tb=(5;av 7),v=2"},
		{name: "labels of other types and values", in: "br=(400;k 5;v=?0 6;v=1),bl=(1;x=\"y\")", want: "bl=(0),br=(6;v 400),v=2", issues: "br:too_many"},
		{name: "two without label", in: "bl=(100 200)", want: "bl=(100),v=2", issues: "bl:too_many"},
		{name: "next objects", in: `nor=("a.m4s" "b\"c";r="0-99")`, want: `nor=("a.m4s" "b\"c";r="0-99"),v=2`},
		{name: "version 1 next object", in: `nor="..%2F300kbps%2Fsegment35.m4v",nrr="12323-48763"`, want: `nor=("../300kbps/segment35.m4v";r="12323-48763"),v=2`},
		{name: "version 2 path keeps its percents", in: `nor=("a%20b"),v=2`, want: `nor=("a%20b"),v=2`},
		{name: "old event token", in: "e=br,ts=1,v=2", want: "e=bc,ts=1,v=2"},
		{name: "unknown tokens", in: "e=zz,sta=Y,ot=qq,sf=h", want: "e=zz,ot=other,sf=h,sta=Y,v=2", issues: "e:unknown_token sta:unknown_token ot:unknown_token"},
		{name: "quoted tokens", in: `e="t",sf="h",st=LL`, want: "e=t,sf=h,st=ll,v=2"},
		{name: "tokens for strings", in: "sid=abc,cid=12,cdn=edge-a", want: `cdn="edge-a",cid="12",sid="abc",v=2`},
		{name: "bare uuid", in: "sid=4ea1-77f0,sn=3", want: `sid="4ea1-77f0",sn=3,v=2`, sloppy: true},
		{name: "custom keys", in: `com.example-a="x y",com.example-b=tok,z-n=5,z-d=1.25,z-t,z-f=?0`, want: `com.example-a="x y",com.example-b=tok,v=2,z-d=1.25,z-f=?0,z-n=5,z-t`},
		{name: "custom key of upper case", in: `Com.Example-A="x"`, want: `com.example-a="x",v=2`, sloppy: true},
		{name: "unknown keys", in: "zzz=5,qq,sn=1", want: "sn=1,v=2"},
		{name: "empty value", in: "br=,sn=1,cid=", want: "sn=1,v=2", issues: "br:empty cid:empty", sloppy: true},
		{name: "empty list", in: "br=(),sn=1", want: "sn=1,v=2", issues: "br:empty"},
		{name: "empty string", in: `cid="",sn=1`, want: "sn=1,v=2", issues: "cid:empty"},
		{name: "empty members", in: ",,sn=1,,su,", want: "sn=1,su,v=2", sloppy: true},
		{name: "null", in: "cid=null,br=(undefined),ltc=NaN,sn=1", want: "sn=1,v=2", issues: "cid:null br:null ltc:null"},
		{name: "a string may say null", in: `cid="null"`, want: `cid="null",v=2`},
		{name: "junk number", in: "bl=(5000ms),d=12x,sn=1", want: "sn=1,v=2", issues: "bl:wrong_type d:wrong_type", sloppy: true},
		{name: "wrong types", in: `d="2000",bl=("x"),sta=5,su="x",sn=1`, want: "sn=1,v=2", issues: "d:wrong_type bl:wrong_type sta:wrong_type su:wrong_type"},
		{name: "negative", in: "d=-5,br=(-1),ltc=-300,sn=1", want: "ltc=-300,sn=1,v=2", issues: "d:out_of_range br:out_of_range"},
		{name: "15 digits", in: "ts=999999999999999,sn=1", want: "sn=1,ts=999999999999999,v=2"},
		{name: "16 digits", in: "ts=9999999999999999,sn=1", want: "sn=1,v=2", issues: "ts:out_of_range", sloppy: true},
		{name: "more decimals", in: "pr=1.0001,ltc=2031.12345", want: "ltc=2031,pr=1,v=2", sloppy: true},
		{name: "other number forms", in: "d=+20,ltc=1e3,pr=.5,sn=5.", want: "d=20,ltc=1000,pr=0.5,sn=5,v=2", sloppy: true},
		{name: "infinity", in: "pr=+Inf,sn=1e400", want: "v=2", issues: "pr:wrong_type sn:wrong_type", sloppy: true},
		{name: "comma in a list", in: "br=(400;v, 64;a),sn=1", want: "br=(400;v 64;a),sn=1,v=2", sloppy: true},
		{name: "open list", in: "br=(400;v,sn=1", want: "br=(400;v),sn=1,v=2", sloppy: true},
		{name: "open list at the end", in: "sn=1,br=(400", want: "br=(400),sn=1,v=2", sloppy: true},
		{name: "open list before a list", in: "br=(400,bl=(100),sn=1", want: "bl=(100),br=(400),sn=1,v=2", sloppy: true},
		{name: "open string", in: `cid="abc,e=ps,url="http://a/b",sn=1`, want: `e=ps,sn=1,url="http://a/b",v=2`, issues: "cid:bad_syntax", sloppy: true},
		{name: "quotes in a string", in: `cen="say "hi" now",e=ce`, want: `cen="say \"hi\" now",e=ce,v=2`, sloppy: true},
		{name: "needless escapes", in: `cid="a\bc",url="C:\\d"`, want: `cid="a\\bc",url="C:\\d",v=2`, sloppy: true},
		{name: "beyond ASCII", in: `cid="été"`, want: `cid="été",v=2`, sloppy: true},
		{name: "not UTF-8", in: "cid=\"\xff\",sn=1", want: "sn=1,v=2", issues: "cid:bad_text", sloppy: true},
		{name: "control characters", in: "cid=\"a\x00b\",sn=1", want: "sn=1,v=2", issues: "cid:bad_text", sloppy: true},
		{name: "too long", in: `sid="` + long + `",cid="` + long + `",sn=1`, want: "sn=1,v=2", issues: "sid:too_long cid:too_long"},
		{name: "bad keys", in: `{"a":1},=5,!x=3,sn=1`, want: "sn=1,v=2", issues: "unknown:bad_key unknown:bad_key unknown:bad_key", sloppy: true},
		{name: "byte sequence", in: "cmsdd=:YWJj:,sn=1", want: `cmsdd="YWJj",sn=1,v=2`},
		{name: "version zero", in: "sn=1,v=0", want: "sn=1,v=2", issues: "v:out_of_range"},
		{name: "rounding", in: "bl=(1249),dl=50,mtp=(49),d=1249", want: "bl=(1200),d=1249,dl=100,mtp=(0),v=2"},
		{name: "error codes", in: `ec=("a" 5 b "c" "d")`, want: `ec=("a" "5" "b" "c"),v=2`, issues: "ec:too_many"},
		{name: "many items", in: "br=(1 2 3 4 5 6 7 8 9 10;v)", want: "br=(1),v=2", issues: "br:too_many br:too_many br:too_many br:too_many br:too_many br:too_many br:too_many br:too_many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Record
			r.ParseText(ModeEvent, tt.in)
			if got := string(r.Append(nil)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var is []string
			for _, x := range r.Issues() {
				is = append(is, x.Key.String()+":"+x.Reason.String())
			}
			if got := strings.Join(is, " "); got != tt.issues {
				t.Errorf("issues %q, want %q", got, tt.issues)
			}
			if r.Strict == tt.sloppy {
				t.Errorf("strict is %t", r.Strict)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	var r Record
	for in, want := range map[string]Outcome{
		"":              Absent,
		" \t\r\n":       Absent,
		"\ufeff":        Absent,
		"v=2":           Parsed,
		"zz=1":          Parsed,
		"my-x=1":        Parsed,
		"<html>":        Useless,
		"d=x":           Useless,
		"sid=\"a\",v=3": Future,
		"sn=" + strings.Repeat("1", MaxRecordBytes): Oversize,
	} {
		if got := r.ParseText(ModeEvent, in); got != want {
			t.Errorf("%.30q: %v, want %v", in, got, want)
		}
	}
	if r.ParseText(ModeEvent, `sid="a",v=3`); r.Version != 3 || r.SessionID != "" || r.Has != Keys(V) {
		t.Errorf("a record of version 3 has content: %+v", r.Has)
	}
}

func TestMissingVersionIsOne(t *testing.T) {
	var r Record
	if r.ParseText(ModeRequest, "bl=100,br=5"); r.Version != 1 || r.Has.Has(V) || r.Scalars != Keys(BL, BR) {
		t.Errorf("version %d, scalars %b", r.Version, r.Scalars)
	}
}

func TestParseBody(t *testing.T) {
	body := "\ufeffe=ps,sn=0,ts=1,v=2\r\n\n  e=t,sn=1,ts=2,v=2 \n\t\r\n\ufeffe=t,sn=2,ts=3,v=2\nCMCD=e%3Dt%2Csn%3D3%2Cts%3D4%2Cv%3D2\n\n"
	var seqs []int64
	left := ParseBody(body, 0, func(r *Record, o Outcome) bool {
		if o != Parsed || !r.Strict || r.Mode != ModeEvent {
			t.Errorf("record %d: %v", r.Seq, o)
		}
		seqs = append(seqs, r.Seq)
		return true
	})
	if !slices.Equal(seqs, []int64{0, 1, 2, 3}) || left != 0 {
		t.Errorf("got %v, left %d", seqs, left)
	}
	n := 0
	if left := ParseBody(body, 3, func(*Record, Outcome) bool { n++; return true }); n != 3 || left != 1 {
		t.Errorf("with a limit of 3: %d read, %d left", n, left)
	}
	n = 0
	if ParseBody(body, 0, func(*Record, Outcome) bool { n++; return false }); n != 1 {
		t.Errorf("went on after false: %d", n)
	}
}

func TestParseRequest(t *testing.T) {
	h := http.Header{}
	h.Set("CMCD-Object", "br=(468),d=2000,ot=v")
	h.Set("CMCD-Session", `cid="c1",sid="s",v=2`)
	h.Set("CMCD-Request", "bl=(0),su")
	h.Add("CMCD-Request", "sn=4")
	h.Set("CMCD-Status", "bs")
	var r Record
	if o := r.ParseRequest(h, "CMCD=br%3D1%2Cpr%3D2"); o != Parsed {
		t.Fatal(o)
	}
	if got, want := string(r.Append(nil)), `bl=(0),br=(468),bs,cid="c1",d=2000,ot=v,sid="s",sn=4,su,v=2`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	one := http.Header{"Cmcd-Status": {""}}
	if o := r.ParseRequest(one, "CMCD=br%3D1"); o != Absent {
		t.Errorf("an empty header must hide the query: %v", o)
	}
	one = http.Header{"Cmcd-Session": {"v=9"}, "Cmcd-Request": {"bl=1"}}
	if o := r.ParseRequest(one, ""); o != Future {
		t.Errorf("version 9 in headers: %v", o)
	}
	for query, want := range map[string]string{
		"t=x&CMCD=br%3D%28400%3Bv+64%3Ba%29%2Cv%3D2&z": "br=(400;v 64;a),v=2",
		"?CMCD=br=400,sid=%22a%20b%22":                 `br=(400),sid="a b",v=2`,
		"cmcd=sn%3D1":                                  "sn=1,v=2",
		"CMCD=cid%3D%22100%%22%2Csn%3D1":               `cid="100%",sn=1,v=2`,
	} {
		if r.ParseRequest(nil, query); string(r.Append(nil)) != want {
			t.Errorf("%s: %s, want %s", query, r.Append(nil), want)
		}
	}
	for _, query := range []string{"", "?", "CMCD=", "xCMCD=sn%3D1", "CMCD"} {
		if o := r.ParseRequest(nil, query); o != Absent {
			t.Errorf("%q: %v", query, o)
		}
	}
}

func TestCorrect(t *testing.T) {
	const now = 1_795_167_643_634
	tests := []struct {
		name, in string
		mode     Mode
		player   Player
		fixes    string
		want     string
	}{
		{"dash.js", `ab=(400;v 64;a),bs,e=rr,ec=27,msd=9,ot=v,sf=d,ttfb=1795167646636,ttlb=19,v=2`, ModeEvent, PlayerDashJS,
			"dashjs_msd|dashjs_ttfb|dashjs_ec|dashjs_bs", "ab=(400;v 64;a),e=rr,ot=v,sf=d,ttlb=19,v=2"},
		{"dash.js error keeps its code", `ab=(4;v),e=e,ec=27,sf=d,v=2`, ModeEvent, PlayerDashJS, "", `ab=(4;v),e=e,ec=("27"),sf=d,v=2`},
		{"shaka event", `br=(464),e=ps,msd=217,sf=d,st=v,sta=p,v=2`, ModeEvent, PlayerShaka, "shaka_st", "br=(464),e=ps,msd=217,sf=d,sta=p,v=2"},
		{"shaka request", `bl=2000,br=64,ot=a,sf=d,st=l,v=2`, ModeRequest, PlayerShaka, "", "bl=(2000),br=(64),ot=a,sf=d,st=l,v=2"},
		{"hls.js stall", `bl=(6400),br=(5),e=ps,mtp=(9),sf=h,sta=r,v=2`, ModeEvent, PlayerHLSJS, "hlsjs_bl", "br=(5),e=ps,mtp=(0),sf=h,sta=r,v=2"},
		{"hls.js response keeps its buffer", `bl=(6400),br=(5),e=rr,mtp=(900),sf=h,sta=r,v=2`, ModeEvent, PlayerHLSJS, "", "bl=(6400),br=(5),e=rr,mtp=(900),sf=h,sta=r,v=2"},
		{"hls.js audio", `br=(500),mtp=(900),nor=("x"),ot=a,sf=h,v=2`, ModeRequest, PlayerHLSJS, "hlsjs_audio", "mtp=(900),ot=a,sf=h,v=2"},
		{"init", `d=0,mtp=(900),ot=i,sf=h`, ModeRequest, PlayerHLSJS, "init_d", "mtp=(900),ot=i,sf=h,v=2"},
		{"told", `bl=(6400),br=(5),e=ps,mtp=(9),sf=h,spillway-player=viewer,sta=r,v=2`, ModeEvent, PlayerOther, "", "bl=(6400),br=(5),e=ps,mtp=(0),sf=h,spillway-player=viewer,sta=r,v=2"},
		{"gates", `bl=(3600001),br=(10000001),ltc=600001,msd=19,mtp=(10000001),pr=17,ts=1,ttfb=20,ttfbb=8,ttlb=19,v=2`, ModeEvent, PlayerUnknown,
			"ttfb|msd|ltc|bl|mtp|br|pr|ts", "ttfbb=8,ttlb=19,v=2"},
		{"low gates", `ltc=-1001,pr=-1,ttlb=1000001,ts=1795254043635`, ModeEvent, PlayerUnknown, "ttlb|ltc|pr|ts", "v=2"},
		{"just inside", `bl=(3600000),ltc=-1000,msd=20,mtp=(10000000),pr=16,ts=1795254043634,ttfb=19,ttlb=19`, ModeEvent, PlayerUnknown, "",
			"bl=(3600000),ltc=-1000,msd=20,mtp=(10000000),pr=16,ts=1795254043634,ttfb=19,ttlb=19,v=2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Record
			r.ParseText(tt.mode, tt.in)
			fixes := string(r.Correct(now).AppendNames(nil))
			if r.Player != tt.player || fixes != tt.fixes {
				t.Errorf("player %q, fixes %q; want %q, %q", r.Player, fixes, tt.player, tt.fixes)
			}
			if got := string(r.Append(nil)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if again := r.Correct(now); again != 0 {
				t.Errorf("a second time: %s", again.AppendNames(nil))
			}
		})
	}
}

func TestByType(t *testing.T) {
	var r Record
	r.ParseText(ModeEvent, "ab=(400;v 64;a),bl=(900;v 200;a),br=(464;av),mtp=(5),tb=(64;a)")
	check := func(what string, v int64, ok bool, want int64) {
		if !ok || v != want {
			t.Errorf("%s is %d %t, want %d", what, v, ok, want)
		}
	}
	v, ok := r.AggregateKbps.Total()
	check("total ab", v, ok, 464)
	v, ok = r.AggregateKbps.Main()
	check("main ab", v, ok, 400)
	v, ok = r.BufferMs.Min()
	check("least bl", v, ok, 200)
	v, ok = r.BufferMs.Max()
	check("most bl", v, ok, 900)
	v, ok = r.BitrateKbps.Main()
	check("main br", v, ok, 464)
	v, ok = r.ThroughputKbps.Total()
	check("total mtp", v, ok, 5)
	v, ok = r.TopKbps.Main()
	check("main tb", v, ok, 64)
	if _, ok := r.TargetBufferMs.Main(); ok {
		t.Error("an absent list has a value")
	}
}

// The table of keys, the name lookup and the order of the constants agree.
func TestKeyTable(t *testing.T) {
	for k := range numKeys {
		if lookup(k.String()) != k {
			t.Errorf("lookup(%q) is %v", k, lookup(k.String()))
		}
		if k > 0 && (k-1).String() >= k.String() {
			t.Errorf("%v is not before %v", k-1, k)
		}
	}
	if lookup("df") != Unknown || lookup("") != Unknown {
		t.Error("an unknown name was found")
	}
}

func TestTokensRoundTrip(t *testing.T) {
	for e := EventTime; e < numEvents; e++ {
		if ParseEvent(e.String()) != e {
			t.Errorf("event %d %q", e, e)
		}
	}
	for s := StateStarting; s < numStates; s++ {
		if ParseState(s.String()) != s {
			t.Errorf("state %d %q", s, s)
		}
	}
	if ParseEvent("zz") != EventOther || ParseState("") != StateOther || Event(200).String() != "other" || Reason(99).String() != "other" {
		t.Error("unknown tokens")
	}
}

func TestLimits(t *testing.T) {
	var b strings.Builder
	for i := range 20 {
		b.WriteString("x-" + string(rune('a'+i)) + "=1,bad!=1,")
	}
	var r Record
	r.ParseText(ModeEvent, b.String())
	if len(r.Custom()) != MaxCustom || len(r.Issues()) != MaxIssues || r.MoreIssues != 20+12-MaxIssues || r.Members != 40 {
		t.Errorf("custom %d, issues %d and %d, members %d", len(r.Custom()), len(r.Issues()), r.MoreIssues, r.Members)
	}
	r.ParseText(ModeEvent, `x-a="1",x-a="2"`)
	if len(r.Custom()) != 1 || r.CustomString("x-a") != "2" || r.CustomString("x-b") != "" {
		t.Errorf("custom %v", r.Custom())
	}
}

func TestEncodeSetters(t *testing.T) {
	r := Record{Event: EventError, TimeUnixMs: 9, BufferMs: Any(150), Rate: 0.3333, SessionID: "a\"\\\n"}
	r.Put(E, TS, BL, PR, SID)
	r.SetErrorCodes("404", "x")
	r.SetNext(NextObject{Path: "n"}, NextObject{Path: "m", Range: "1-"})
	r.SetCustom(CustomValue{Key: "z-a", Value: "t", Kind: CustomToken})
	r.SetCustom(CustomValue{Key: "a-z", Value: "?1", Kind: CustomBool})
	want := `a-z,bl=(200),e=e,ec=("404" "x"),nor=("n" "m";r="1-"),pr=0.333,sid="a\"\\",ts=9,v=2,z-a=t`
	if got := string(r.Append([]byte("pre ")))[4:]; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := string(r.AppendQuery(nil)), "CMCD=a-z%2Cbl%3D%28200%29%2Cec%3D%28%22404%22%20%22x%22%29%2Cnor%3D%28%22n%22%20%22m%22%3Br%3D%221-%22%29%2Cpr%3D0.333%2Csid%3D%22a%5C%22%5C%5C%22%2Cv%3D2%2Cz-a%3Dt"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
