package storetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/store"
)

// The S3 service that tests run: a Go program, built once and kept in the
// user's cache folder.
const (
	serverModule  = "github.com/versity/versitygw/cmd/versitygw"
	serverVersion = "v1.8.0"
	accessKey     = "test"
	secretKey     = "testtest"
)

var build sync.Mutex

func server(t testing.TB) string {
	t.Helper()
	build.Lock()
	defer build.Unlock()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "spillway-test")
	bin := filepath.Join(dir, "versitygw-"+serverVersion)
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	tmp := t.TempDir()
	c := exec.CommandContext(t.Context(), "go", "install", serverModule+"@"+serverVersion)
	c.Dir = tmp
	c.Env = append(os.Environ(), "GOBIN="+tmp, "GOFLAGS=-mod=mod")
	if out, err := c.CombinedOutput(); err != nil {
		need.Missing(t, "the S3 service cannot be built here: %v\n%s", err, out)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Another test process may do the same: the file appears whole.
	b, err := os.ReadFile(filepath.Join(tmp, "versitygw"))
	if err == nil {
		part := bin + fmt.Sprintf(".%d", os.Getpid())
		if err = os.WriteFile(part, b, 0o755); err == nil {
			err = os.Rename(part, bin)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Service is a running S3 service with one bucket.
type Service struct {
	Endpoint, Bucket string

	bin, dir, addr string
	t              testing.TB
	stop           func()
}

// Start runs the service on a free port until the test ends, its data in a
// temporary folder; the test is skipped where it cannot be built.
func Start(t testing.TB) *Service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := &Service{Endpoint: "http://" + addr, Bucket: "media", bin: server(t), dir: t.TempDir(), addr: addr, t: t}
	s.Run()
	t.Cleanup(func() { s.Kill() })
	c, err := minio.New(addr, &minio.Options{Creds: s.credentials()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), s.Bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Service) credentials() *credentials.Credentials {
	return credentials.NewStaticV4(accessKey, secretKey, "")
}

// Run starts the service again after Kill, with what it had.
func (s *Service) Run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, s.bin, "--access", accessKey, "--secret", secretKey, "--port", s.addr, "--quiet", "posix", "--nometa", s.dir)
	var log strings.Builder
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Wait() }() // it ends by being killed
	s.stop = sync.OnceFunc(func() { cancel(); <-ended })
	s.t.Cleanup(s.stop)
	await.Text(s.t, "the S3 service answers", func() string {
		select {
		case <-ended:
			s.t.Fatalf("the S3 service ended:\n%s", log.String())
		default:
		}
		r, err := http.Get(s.Endpoint)
		if err != nil {
			return err.Error()
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		return ""
	})
}

// Kill ends the service as kill -9 does.
func (s *Service) Kill() { s.stop() }

// Store opens the bucket, keys under prefix.
func (s *Service) Store(prefix string) *store.S3 {
	s.t.Helper()
	o, err := store.NewS3(store.S3Settings{Endpoint: s.Endpoint, Region: "us-east-1", Bucket: s.Bucket, Prefix: prefix, Credentials: s.credentials()})
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}
