package schemas

import (
	"strings"
	"testing"
)

// TestParamsAreChecked: what nobody can obey is refused, and why.
func TestParamsAreChecked(t *testing.T) {
	for _, x := range []struct{ name, value, unit, says string }{
		{ParamPolicy, "mine", UnitViewer, ""},
		{ParamPolicy, "mine@3", UnitViewer, ""},
		{ParamPolicy, "mine@", UnitViewer, "version"},
		{ParamPolicy, "mine@0", UnitViewer, "version"},
		{ParamPolicy, "mine@1@2", UnitViewer, "version"},
		{ParamPolicy, "@1", UnitViewer, "empty"},
		{ParamPartTargetMs, "400", UnitStream, ""},
		{ParamPartTargetMs, "400", UnitViewer, "made once for all viewers of a stream"},
		{ParamPartTargetMs, "400", UnitBlock, "made once for all viewers of a stream"},
		{ParamPartTargetMs, "900", UnitStream, "from 100 to 500"},
		{ParamOverflowAt, "0.7", UnitSession, ""},
		{ParamOverflowAt, "NaN", UnitSession, "not a number"},
		{ParamPreloadNeighbours, "5", UnitSession, "from 0 to 4"},
		{"colour", "red", UnitSession, "nobody obeys"},
	} {
		err := checkParam(x.name, x.value, x.unit)
		if (err == nil) != (x.says == "") || err != nil && !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s=%s for unit %s: %v, want %q", x.name, x.value, x.unit, err, x.says)
		}
	}
	if n := NumberParam(map[string]string{"a": "0.5"}, "a"); n != 0.5 || NumberParam(nil, "a") != 0 {
		t.Errorf("number %v", n)
	}
}
