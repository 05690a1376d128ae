package clickhousetest

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/need"
)

// ClusterName is what the cluster of StartCluster is called.
const ClusterName = "spillway"

// clusterTries is how often StartCluster looks for ports: between looking and listening another process may take one.
const clusterTries = 5

// StartCluster runs a server for each of so many shards, which know each other as the cluster ClusterName.
func StartCluster(t testing.TB, shards int) []*clickhouse.Server {
	t.Helper()
	for try := 1; ; try++ {
		servers, err := startCluster(t, shards)
		if errors.Is(err, clickhouse.ErrUnsupported) {
			need.Missing(t, "%v", err)
		}
		if err == nil {
			return servers
		}
		if try == clusterTries || !strings.Contains(err.Error(), "is in use") {
			t.Fatal(err)
		}
	}
}

func startCluster(t testing.TB, shards int) ([]*clickhouse.Server, error) {
	addrs, err := freeAddrs(shards)
	if err != nil {
		return nil, err
	}
	c := clickhouse.Cluster{Name: ClusterName, Addrs: addrs, Secret: rand.Text(), AdminPassword: rand.Text(), WriterPassword: rand.Text()}
	servers := make([]*clickhouse.Server, shards)
	for i, a := range addrs {
		_, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		own := c
		own.Shard = i + 1
		o := clickhouse.Options{DataDir: t.TempDir(), MemoryLimitBytes: 1 << 30, Progress: os.Stderr, Cluster: &own}
		if o.TCPPort, err = strconv.Atoi(port); err != nil {
			return nil, err
		}
		s, err := clickhouse.Start(t.Context(), o)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { stop(t, s) })
		servers[i] = s
	}
	return servers, nil
}

// freeAddrs finds free ports. All are held until all are known, so that they differ.
func freeAddrs(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}
