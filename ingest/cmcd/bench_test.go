package cmcd

import "testing"

const hlsEvent = `bl=(6300),br=(510),cid="c1",e=rr,mtp=(46100),pr=1.5,rc=200,sf=h,sid="353c2f94-7c26-4424-9997-ca599aae5979",sn=18,st=l,sta=p,ts=1795167643634,ttfb=12,ttlb=33,url="http://localhost:8801/media/livehls/media186.m4s",v=2`

const dashRequest = `?CMCD=ab%3D%28400%3Bv+64%3Ba%29%2Cbl%3D%280%3Bv%29%2Cbr%3D%28400%3Bv%29%2Cbs%2Ccid%3D%22c1%22%2Cd%3D2000%2Cdl%3D0%2Clab%3D%28400%3Bv+64%3Ba%29%2Cltc%3D2065%2Cot%3Dv%2Cpb%3D%28400%3Bv%29%2Crtp%3D8100%2Csf%3Dd%2Csid%3D%220152fe1b-a128-4411-98c1-a90559568b9c%22%2Csn%3D3%2Cst%3Dl%2Csta%3Dr%2Csu%2Ctab%3D%28400%3Bv+64%3Ba%29%2Ctb%3D%28400%3Bv%29%2Ctpb%3D%28400%3Bv%29%2Cv%3D2`

func BenchmarkEvent(b *testing.B) {
	b.ReportAllocs()
	var r Record
	for b.Loop() {
		if r.ParseEvent(hlsEvent) != Parsed {
			b.Fatal("not parsed")
		}
		r.Correct(1795167643700)
	}
}

func BenchmarkQuery(b *testing.B) {
	b.ReportAllocs()
	var r Record
	for b.Loop() {
		if r.ParseQuery(dashRequest) != Parsed {
			b.Fatal("not parsed")
		}
		r.Correct(1795167643700)
	}
}

// Every member damaged: the lenient pass throughout.
func BenchmarkLenient(b *testing.B) {
	b.ReportAllocs()
	var r Record
	for b.Loop() {
		if r.ParseEvent(`BL=(6300, 5;v),Cid="a"b",E=+5,MTP=(46100,Sid=353c2f94-7c26,sn=5.,TS=`) != Parsed {
			b.Fatal("not parsed")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	b.ReportAllocs()
	var r Record
	r.ParseEvent(hlsEvent)
	var buf []byte
	for b.Loop() {
		buf = r.Append(buf[:0])
	}
}
