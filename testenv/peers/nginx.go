package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// NginxRTMP starts nginx with its RTMP module (Debian: nginx-light and libnginx-mod-rtmp), which cuts RTMP into
// plain HLS with MPEG-TS segments: less work than low-latency HLS, and the lower bound for a comparison.
type NginxRTMP struct {
	// Binary is the program's name or path; "nginx" when empty, also looked for in /usr/sbin.
	Binary string
	// Module is the path of ngx_rtmp_module.so; the place of Debian's package when empty.
	Module string
	// SegmentDuration is the least length of segments; 2 s when 0.
	SegmentDuration time.Duration
}

const debianRTMPModule = "/usr/lib/nginx/modules/ngx_rtmp_module.so"

// Installed tells whether nginx and its RTMP module are there.
func (n NginxRTMP) Installed() bool {
	_, err := n.binary()
	if err == nil {
		_, err = os.Stat(orDefault(n.Module, debianRTMPModule))
	}
	return err == nil
}

func (n NginxRTMP) binary() (string, error) {
	binary, err := resolve(orDefault(n.Binary, "nginx"))
	if err != nil && n.Binary == "" {
		binary, err = resolve("/usr/sbin/nginx")
	}
	return binary, err
}

// Start runs the server until ctx ends or Stop, and returns when it listens.
func (n NginxRTMP) Start(ctx context.Context) (*Server, error) {
	binary, err := n.binary()
	const remedy = "install it (Debian: apt-get install nginx-light libnginx-mod-rtmp) or give its path"
	if err != nil {
		return nil, fmt.Errorf("find nginx: %w: %s", err, remedy)
	}
	module := orDefault(n.Module, debianRTMPModule)
	if _, err := os.Stat(module); err != nil {
		return nil, fmt.Errorf("find nginx's RTMP module: %w: %s", err, remedy)
	}
	return start(ctx, launch{
		name:     "nginx-rtmp",
		version:  strings.TrimPrefix(firstLine(ctx, binary, "-v"), "nginx version: "),
		playPath: func(stream string) string { return "/" + stream + ".m3u8" },
		command: func(dir, rtmp, http string) (*exec.Cmd, error) {
			if err := os.Mkdir(filepath.Join(dir, "hls"), 0o700); err != nil {
				return nil, fmt.Errorf("create its HLS directory: %w", err)
			}
			config := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(config, []byte(n.config(module, dir, rtmp, http)), 0o600); err != nil {
				return nil, fmt.Errorf("write its configuration: %w", err)
			}
			return exec.Command(binary, "-p", dir, "-c", config, "-e", "stderr"), nil
		},
	})
}

// config runs nginx as one process: a worker would survive a master that is killed, and its CPU time would
// be counted only while it lives.
func (n NginxRTMP) config(module, dir, rtmp, http string) string {
	return strings.NewReplacer("{module}", module, "{dir}", dir, "{rtmp}", rtmp, "{http}", http,
		"{application}", application,
		"{fragment}", fmt.Sprintf("%dms", orDefault(n.SegmentDuration, 2*time.Second).Milliseconds())).Replace(`
load_module {module};
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
rtmp {
  server {
    listen {rtmp};
    chunk_size 65536;
    application {application} {
      live on;
      hls on;
      hls_path {dir}/hls;
      hls_fragment {fragment};
      hls_playlist_length 12s;
    }
  }
}
http {
  access_log off;
  client_body_temp_path {dir}/t1;
  proxy_temp_path {dir}/t2;
  fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4;
  scgi_temp_path {dir}/t5;
  types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
  server {
    listen {http};
    root {dir}/hls;
    add_header Access-Control-Allow-Origin *;
    location ~ \.m3u8$ { add_header Cache-Control no-cache; add_header Access-Control-Allow-Origin *; }
  }
}
`)
}
