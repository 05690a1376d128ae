// Package store keeps objects under names: recorded media and what belongs to
// it. One interface, a folder or an S3-compatible service behind it.
//
// It promises that an object is there whole or not at all, whatever dies while
// it is written, that writing the same object twice is harmless, and that lists
// are in the byte order of keys and show what Put has returned for. It leaves
// out everything a name cannot say: no metadata, no versions, no locks.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// ErrNotFound is wrapped by errors about objects that do not exist.
var ErrNotFound = errors.New("no such object")

// Info is what a list tells of an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Objects is an object store. Safe for concurrent use, also by several processes.
type Objects interface {
	// Put writes an object whole or not at all, in place of one of that name.
	Put(ctx context.Context, key string, data []byte) error
	// Open reads length bytes from offset, or to the end where length is negative.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat tells an object's size.
	Stat(ctx context.Context, key string) (Info, error)
	// List gives up to limit objects whose keys begin with prefix and come after
	// after, in the byte order of keys.
	List(ctx context.Context, prefix, after string, limit int) ([]Info, error)
	// Dirs gives the next elements of the keys that begin with prefix and go on
	// below it, in order. prefix is empty or ends in a slash.
	Dirs(ctx context.Context, prefix string) ([]string, error)
	// Delete removes objects; those that do not exist are no error.
	Delete(ctx context.Context, keys ...string) error
}

// Get reads a whole object of at most limit bytes.
func Get(ctx context.Context, o Objects, key string, limit int64) ([]byte, error) {
	r, err := o.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", key, limit)
	}
	return b, nil
}

// maxKey bounds a key, bytes: S3 allows 1024, and a prefix may go before it.
const maxKey = 900

// CheckKey refuses keys that some store could not hold or would read otherwise:
// elements of A-Z a-z 0-9 . _ - joined by slashes, none beginning with a dot.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("object key %.60q has %d bytes: 1 to %d are allowed", key, len(key), maxKey)
	}
	for e := range strings.SplitSeq(key, "/") {
		if e == "" || e[0] == '.' || len(e) > 255 {
			return fmt.Errorf("object key %q: an element is empty, begins with a dot or is longer than 255 bytes", key)
		}
		for i := range len(e) {
			if c := e[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
				return fmt.Errorf("object key %q: only A-Z a-z 0-9 . _ - and slashes are allowed", key)
			}
		}
	}
	return nil
}

// OpenURL opens the store that a URL names:
//
//	file:///var/lib/spillway/store
//	s3://BUCKET/PREFIX?endpoint=https://HOST[:PORT]&region=REGION
//
// An S3 store's credentials come from the environment (AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY) or from the file AWS_SHARED_CREDENTIALS_FILE (default
// ~/.aws/credentials), never from the URL.
func OpenURL(ctx context.Context, rawURL string) (Objects, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("store: the address is not a URL: give file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST")
	}
	if u.User != nil {
		return nil, errors.New("store: credentials do not belong into the address: give them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in a credentials file")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Path == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("store %q: give file:///PATH", rawURL)
		}
		return NewFolder(u.Path)
	case "s3":
		return newS3FromURL(ctx, u)
	}
	return nil, fmt.Errorf("store %q: the scheme must be file or s3", rawURL)
}
