package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

//go:embed static
var static embed.FS

//go:embed shell.html
var shellHTML string

// policy lets the page run its own scripts only; the play page is framed from here.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (c *Console) handler() http.Handler {
	shell := template.Must(template.New("shell").Parse(shellHTML))
	files, assets := assetFiles()
	mux := http.NewServeMux()
	for _, d := range c.pages() {
		mux.HandleFunc("GET "+d.path, c.show(d, shell, assets))
	}
	mux.Handle("GET /assets/console/{hash}/", files)
	mux.HandleFunc("GET /v1/live", c.live)
	mux.HandleFunc("GET /v1/streams", func(w http.ResponseWriter, _ *http.Request) {
		c.hub.touch(time.Now())
		v := c.st.view(time.Now())
		answer(w, map[string]any{"streams": v.Streams, "bus": v.Bus, "clickhouse": v.Click})
	})
	mux.HandleFunc("GET /v1/cdns", func(w http.ResponseWriter, _ *http.Request) {
		c.hub.touch(time.Now())
		v := c.st.view(time.Now())
		answer(w, map[string]any{"cdns": v.CDNs, "totals": v.Totals, "bus": v.Bus, "clickhouse": v.Click})
	})
	mux.HandleFunc("GET /v1/pushes", c.pushes)
	c.wallRoutes(mux)
	c.detailRoutes(mux)
	c.settings(mux)
	c.experiments(mux)
	mux.HandleFunc("GET /v1/pictures/{app}/{stream}", c.serveHistory)
	mux.HandleFunc("GET /v1/pictures/{app}/{stream}/{picture}", c.serveOne)
	mux.HandleFunc("PUT /v1/picture-access", c.grantPictures)
	mux.HandleFunc("DELETE /v1/picture-access", endPictures)
	mux.HandleFunc("GET /healthz", c.healthz)
	if c.s.Metrics != nil {
		mux.Handle("GET /metrics", c.s.Metrics)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The dot keeps picture.jpg apart from every name, so this goes first.
		if f := strings.Split(r.URL.Path, "/"); len(f) == 4 && f[3] == "picture.jpg" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			c.serveLatest(w, r, f[1], f[2])
			return
		}
		if p := r.URL.Path; c.s.Player != nil && (p == "/play" || strings.HasPrefix(p, "/play/") || strings.HasPrefix(p, "/assets/player/")) {
			c.s.Player.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.URL.Path != "/v1/live" {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30 * time.Second))
		}
		mux.ServeHTTP(w, r)
	})
}

// assetFiles serves the embedded files under an address with the hash of them
// all, so that browsers keep them for ever and a new program brings new ones.
func assetFiles() (http.Handler, string) {
	sum := sha256.New()
	content := map[string][]byte{}
	err := fs.WalkDir(static, "static", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(p)
		content[strings.TrimPrefix(p, "static/")] = b
		io.WriteString(sum, p)
		sum.Write(b)
		return err
	})
	if err != nil {
		panic(err) // embedded files can be read
	}
	hash := hex.EncodeToString(sum.Sum(nil))[:16]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := content[strings.TrimPrefix(r.URL.Path, "/assets/console/"+r.PathValue("hash")+"/")]
		if !ok || r.PathValue("hash") != hash {
			refuse(w, http.StatusNotFound, "no such file")
			return
		}
		h := w.Header()
		h.Set("Content-Type", mime.TypeByExtension(path.Ext(r.URL.Path)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		w.Write(b)
	}), hash
}

// healthz says whether the console serves; what it reads from is in the body.
func (c *Console) healthz(w http.ResponseWriter, _ *http.Request) {
	c.st.mu.Lock()
	bus, click := c.st.bus, c.st.click
	c.st.mu.Unlock()
	answer(w, map[string]health{"bus": bus, "clickhouse": click})
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "the answer could not be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(b, '\n'))
}

func refuse(w http.ResponseWriter, status int, why string) {
	b, _ := json.Marshal(schemas.ErrorAnswer{Error: why}) // a struct of one string encodes
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}
