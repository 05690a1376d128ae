package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

// secrets are made once per data directory and shared by the roles that sign,
// verify or hash. Roles on other machines get a copy of the file.
type secrets struct {
	// TokenKey signs session tokens and publish keys.
	TokenKey []byte `json:"token_key"`
	// EdgeKey is what edges show the router.
	EdgeKey string `json:"edge_key"`
	// ViewerSalt hashes viewer ids, since ViewerSaltFromUnix; OldViewerSalts did so before.
	ViewerSalt         []byte    `json:"viewer_salt"`
	ViewerSaltFromUnix int64     `json:"viewer_salt_from,omitempty"`
	OldViewerSalts     []oldSalt `json:"old_viewer_salts,omitempty"`
	// AdminToken guards what changes things over HTTP.
	AdminToken string `json:"admin_token"`
	// CDNKeys are the keys of CDNs that sign addresses in their own way, by name (cdn set --token-key).
	CDNKeys map[string]string `json:"cdn_keys,omitempty"`
}

// loadSecrets reads <dataDir>/secrets.json and makes it where it is missing.
func loadSecrets(dataDir string) (*secrets, error) {
	path := filepath.Join(dataDir, "secrets.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecrets(dataDir, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	var s secrets
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read secrets: %s: %w", path, err)
	}
	if len(s.TokenKey) < token.MinKeyLen || s.EdgeKey == "" || len(s.ViewerSalt) < 16 || s.AdminToken == "" {
		return nil, fmt.Errorf("read secrets: %s lacks a key: restore it, or remove it to have new ones made (all tokens given out end then)", path)
	}
	return &s, nil
}

func makeSecrets(dataDir, path string) (*secrets, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make secrets: %w", err)
	}
	key, salt := make([]byte, 32), make([]byte, 32)
	rand.Read(key)
	rand.Read(salt)
	s := &secrets{TokenKey: key, EdgeKey: rand.Text(), ViewerSalt: salt, ViewerSaltFromUnix: time.Now().Unix(), AdminToken: rand.Text()}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make secrets: %w", err)
	}
	if err := writeFile(path, append(b, '\n')); err != nil {
		return nil, fmt.Errorf("make secrets: %w", err)
	}
	return s, nil
}

// cdnKeyEnv is the prefix of environment variables that hold keys of CDNs:
// SPILLWAY_CDN_KEY_<NAME>, with the name in capitals and _ for -.
const cdnKeyEnv = "SPILLWAY_CDN_KEY_"

// cdnKeys gives the keys of CDNs by name; the environment goes first.
func (s *secrets) cdnKeys(env []string) map[string][]byte {
	out := map[string][]byte{}
	for name, key := range s.CDNKeys {
		out[name] = []byte(key)
	}
	for _, e := range env {
		name, key, _ := strings.Cut(e, "=")
		if name, ok := strings.CutPrefix(name, cdnKeyEnv); ok {
			out[strings.ToLower(name)] = []byte(key)
			out[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] = []byte(key)
		}
	}
	return out
}

func (s *secrets) signer() (*token.Signer, error) { return token.NewSigner(s.TokenKey) }
