package clickhouse

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// credentials are the passwords of one data directory.
type credentials struct {
	Admin  string `json:"admin"`
	Writer string `json:"writer"`
}

func (c credentials) password(u User) string {
	switch u {
	case Admin:
		return c.Admin
	case Writer:
		return c.Writer
	default:
		return ""
	}
}

// loadCredentials reads the passwords kept at path, or makes them. The caller holds the data directory's lock.
func loadCredentials(path string) (credentials, error) {
	var c credentials
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &c); err != nil || c.Admin == "" || c.Writer == "" {
			return c, fmt.Errorf("read passwords: %s is damaged; delete it and new ones are made", path)
		}
		return c, nil
	case !errors.Is(err, fs.ErrNotExist):
		return c, fmt.Errorf("read passwords: %w", err)
	}
	c = credentials{Admin: rand.Text(), Writer: rand.Text()}
	if b, err = json.Marshal(c); err != nil {
		return c, fmt.Errorf("encode passwords: %w", err)
	}
	return c, replaceFile(path, append(b, '\n'), 0o600)
}

// sha256Hex is the form users.xml keeps a password in.
func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
