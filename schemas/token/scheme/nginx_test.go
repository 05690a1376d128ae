package scheme

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
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
)

// The configuration of the NginxPath comment and that of nginx's manual, with
// answers that say what nginx made of the address. It listens on a socket in a
// folder, so that no port has to be guessed.
const nginxConfig = `
daemon off; master_process off; pid DIR/pid; error_log stderr warn;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  server {
    listen unix:DIR/sock;
    location ~ ^/s/(?<sum>[\w-]+)/(?<until>\d+)(?<dir>/[^/]+/[^/]+/)(?<rest>.*)$ {
      secure_link $sum,$until;
      secure_link_md5 "$until$dir SECRET";
      if ($secure_link = "")  { return 403; }
      if ($secure_link = "0") { return 410; }
      return 200 "$dir$rest";
    }
    location / {
      secure_link $arg_md5,$arg_expires;
      secure_link_md5 "$secure_link_expires$uri SECRET";
      if ($secure_link = "")  { return 403; }
      if ($secure_link = "0") { return 410; }
      return 200 "$uri";
    }
  }
}`

// startNginx gives a client whose every host is the server.
func startNginx(t *testing.T) *http.Client {
	t.Helper()
	bin := need.Program(t, "nginx")
	dir, err := os.MkdirTemp("", "nginx") // short: the name of a socket may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(strings.NewReplacer("DIR", dir, "SECRET", longKey).Replace(nginxConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-p", dir, "-c", conf, "-e", "stderr")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	dial := func() (net.Conn, error) { return net.Dial("unix", filepath.Join(dir, "sock")) }
	await.True(t, "nginx listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("nginx ended: %s", log.String())
		default:
		}
		c, err := dial()
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// nginx itself takes what is signed here, and nothing else.
func TestNginxTakesWhatIsSigned(t *testing.T) {
	c := startNginx(t)
	ask := func(u string) (int, string) {
		t.Helper()
		r, err := c.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	path := dir + "src/video/1-5.m4s"
	for _, s := range []Scheme{NginxPath{}, NginxQuery{}} {
		for _, v := range []struct {
			until time.Time
			key   string
			want  int
		}{{time.Now().Add(time.Hour), longKey, 200}, {time.Now().Add(-time.Hour), longKey, 410}, {time.Now().Add(time.Hour), longKey + "!", 403}} {
			u, err := s.Sign(parse(t, "http://nginx"+path), Grant{Dir: dir, ExpiresUnix: v.until.Unix()}, []byte(v.key))
			if err != nil {
				t.Fatal(err)
			}
			code, body := ask(u.String())
			if code != v.want || code == 200 && body != path {
				t.Errorf("%s until %s: %d %q, want %d", s.Name(), v.until, code, body, v.want)
			}
			if v.want != 200 {
				continue
			}
			if code, _ := ask(strings.Replace(u.String(), "/live/demo/", "/live/other/", 1)); code != 403 {
				t.Errorf("%s for another stream: %d", s.Name(), code)
			}
			next := u.ResolveReference(parse(t, "1-6.0.m4s?_HLS_msn=1")).String()
			want := 403 // this is why query schemes cannot protect playlists
			if s.Inherits() == nil {
				want = 200
			}
			if code, _ := ask(next); code != want {
				t.Errorf("%s, a relative URI: %d, want %d", s.Name(), code, want)
			}
		}
	}
	if code, _ := ask(fmt.Sprintf("http://nginx%s", path)); code != 403 {
		t.Errorf("without a token: %d", code)
	}
}
