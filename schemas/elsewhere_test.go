package schemas_test

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

type toldAgo struct {
	older time.Duration
	where schemas.Where
}

func readElsewhere(data []byte) (out []toldAgo, err error) {
	err = schemas.ReadElsewhere(data, func(older time.Duration, w schemas.Where) { out = append(out, toldAgo{older, w}) })
	return out, err
}

func TestElsewhere(t *testing.T) {
	want := []toldAgo{
		{0, schemas.Where{TimeUs: 1_795_000_000_000_001, SessionID: "s1", CDN: "a", Group: 15, Region: "Île de France"}},
		{1500 * time.Millisecond, schemas.Where{TimeUs: 1_794_999_998_500_001, SessionID: "s2", CDN: "b"}},
	}
	var data []byte
	for _, x := range want {
		data = schemas.AppendElsewhere(data, x.older, x.where)
	}
	if got, err := readElsewhere(data); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q: %+v, %v", data, got, err)
	}
	// A region's name cannot add a line.
	data = schemas.AppendElsewhere(nil, -time.Second, schemas.Where{TimeUs: 1, SessionID: "s3", CDN: "a", Region: "x\n0 1 s4 a 0 y"})
	if got, err := readElsewhere(data); err != nil || len(got) != 1 || got[0].older != 0 || got[0].where.SessionID != "s3" {
		t.Errorf("%q: %+v, %v", data, got, err)
	}
	// What is good before a bad line counts.
	for _, bad := range []string{"x 1 s1 a 0 eu\n", "-1 1 s1 a 0 eu\n", "0 1 s1 a\n", "0\n", "\n", "99999999999999 1 s1 a 0 eu\n"} {
		if got, err := readElsewhere([]byte("0 1 s1 a 0 eu\n" + bad)); err == nil || len(got) != 1 {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
	many := []byte{}
	for range schemas.MaxElsewhere + 1 {
		many = schemas.AppendElsewhere(many, 0, want[0].where)
	}
	if got, err := readElsewhere(many); err == nil || len(got) != schemas.MaxElsewhere {
		t.Errorf("%d decisions, %v", len(got), err)
	}
}

func FuzzReadElsewhere(f *testing.F) {
	f.Add([]byte("0 1 s1 a 3 eu\n12 2 s2 b 4 \n"))
	f.Add([]byte("0 1 s1 a 3 eu"))
	f.Add([]byte("\n\n"))
	f.Add([]byte("0 x s1 a 3 eu\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readElsewhere(data)
		if len(got) > schemas.MaxElsewhere {
			t.Fatalf("%d decisions", len(got))
		}
		if err != nil {
			return
		}
		var again []byte
		for _, x := range got {
			again = schemas.AppendElsewhere(again, x.older, x.where)
		}
		if same, err := readElsewhere(again); err != nil || !slices.Equal(same, got) {
			t.Errorf("%q: %+v, %v", again, same, err)
		}
	})
}
