package clickhouse

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
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
	return c, c.keep(path)
}

// keep writes the passwords to path, readable by the owner alone.
func (c credentials) keep(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode passwords: %w", err)
	}
	return replaceFile(path, append(b, '\n'), 0o600)
}

// sha256Hex is the form users.xml keeps a password in.
func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// AdminURL gives the administrator's data source name of the server at native (a
// data source name of another user) whose data directory is dataDir. Where the
// directory has no passwords the server is another's, and native is returned.
func AdminURL(dataDir, native string) (string, error) {
	path := layout{dataDir}.credentials()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return native, nil
	}
	c, err := loadCredentials(path)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(native)
	if err != nil {
		return "", fmt.Errorf("address of ClickHouse: %w", err)
	}
	u.User = url.UserPassword(string(Admin), c.Admin)
	return u.String(), nil
}
