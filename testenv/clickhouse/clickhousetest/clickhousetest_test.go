package clickhousetest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func TestServersShareNothingAndEndWithTheirTest(t *testing.T) {
	var inner *clickhouse.Server
	t.Run("inner", func(t *testing.T) {
		inner = clickhousetest.Start(t)
		other := clickhousetest.Start(t)
		if inner.PID() == other.PID() || inner.DataDir() == other.DataDir() || inner.HTTPAddr() == other.HTTPAddr() ||
			inner.Password(clickhouse.Admin) == other.Password(clickhouse.Admin) {
			t.Error("two servers share something")
		}
		resp, err := http.Post(inner.AnalystURL(), "text/plain", strings.NewReader("SELECT 1"))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("no answer: %v, %v", resp, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	})
	if inner == nil {
		t.Skip("no server on this machine")
	}
	select {
	case <-inner.Done():
	default:
		t.Error("the server outlived its test")
	}
}
