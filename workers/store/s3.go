package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Settings say where an S3-compatible service is.
type S3Settings struct {
	// Endpoint is http(s)://HOST[:PORT]; empty: Amazon's.
	Endpoint string
	// Region is asked for by some services; may be empty.
	Region string
	// Bucket must exist. Prefix goes before every key; empty, or ending in a slash.
	Bucket, Prefix string
	// Credentials sign the requests.
	Credentials *credentials.Credentials
}

// S3 keeps objects in a bucket of an S3-compatible service.
type S3 struct {
	c      *minio.Client
	core   minio.Core
	bucket string
	prefix string
}

// NewS3 opens a bucket; it asks the service nothing yet.
func NewS3(s S3Settings) (*S3, error) {
	endpoint := s.Endpoint
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("store: S3 endpoint %q must be http(s)://HOST[:PORT]", endpoint)
	}
	if s.Bucket == "" {
		return nil, errors.New("store: the S3 bucket is missing: give s3://BUCKET/PREFIX?endpoint=URL")
	}
	if s.Prefix != "" {
		if err := CheckKey(strings.TrimSuffix(s.Prefix, "/")); err != nil || !strings.HasSuffix(s.Prefix, "/") {
			return nil, fmt.Errorf("store: S3 prefix %q must be a key with a slash at its end", s.Prefix)
		}
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 64
	// A service that takes a request and never answers is away, too.
	tr.ResponseHeaderTimeout = 20 * time.Second
	c, err := minio.New(u.Host, &minio.Options{
		Creds: s.Credentials, Secure: u.Scheme == "https", Region: s.Region, Transport: tr,
		// Callers decide how long to try; nobody should wait for ten attempts.
		MaxRetries: 2,
	})
	if err != nil {
		return nil, fmt.Errorf("store: S3: %w", err)
	}
	return &S3{c: c, core: minio.Core{Client: c}, bucket: s.Bucket, prefix: s.Prefix}, nil
}

func newS3FromURL(_ context.Context, u *url.URL) (*S3, error) {
	q := u.Query()
	for k := range q {
		if k != "endpoint" && k != "region" {
			return nil, fmt.Errorf("store: s3 address: parameter %q is not known: endpoint and region are", k)
		}
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	region := q.Get("region")
	if region == "" {
		region = os.Getenv("AWS_REGION")
	}
	chain := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	return NewS3(S3Settings{Endpoint: q.Get("endpoint"), Region: region, Bucket: u.Host, Prefix: prefix, Credentials: chain})
}

func (s *S3) wrap(what, key string, err error) error {
	if r := minio.ToErrorResponse(err); r.Code == "NoSuchKey" || r.StatusCode == http.StatusNotFound && r.Code != "NoSuchBucket" {
		err = ErrNotFound
	}
	return fmt.Errorf("%s %s: %w", what, key, err)
}

// Put sends the object in one request, which the service takes whole or not at all.
func (s *S3) Put(ctx context.Context, key string, data []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	_, err := s.c.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{
		DisableMultipart: true, ContentType: "application/octet-stream",
	})
	if err != nil {
		return s.wrap("store", key, err)
	}
	return nil
}

// Open asks for a range.
func (s *S3) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if length == 0 {
		_, err := s.Stat(ctx, key)
		return io.NopCloser(strings.NewReader("")), err
	}
	var opt minio.GetObjectOptions
	if offset > 0 || length > 0 {
		end := int64(0) // to the end
		if length > 0 {
			end = offset + length - 1
		}
		err := opt.SetRange(offset, end)
		if length == 1 && offset == 0 {
			opt.Set("Range", "bytes=0-0")
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
	}
	r, _, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opt)
	if err != nil {
		return nil, s.wrap("read", key, err)
	}
	return r, nil
}

// Stat asks for the head.
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	i, err := s.c.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.wrap("find", key, err)
	}
	return Info{key, i.Size, i.LastModified}, nil
}

// List asks for pages of a thousand keys.
func (s *S3) List(ctx context.Context, prefix, after string, limit int) ([]Info, error) {
	if after != "" {
		after = s.prefix + after
	}
	var out []Info
	err := s.list(ctx, minio.ListObjectsOptions{Prefix: s.prefix + prefix, StartAfter: after, MaxKeys: min(limit, 1000), Recursive: true}, func(i minio.ObjectInfo) bool {
		if !strings.HasSuffix(i.Key, "/") { // markers of folders, which some tools write
			out = append(out, Info{strings.TrimPrefix(i.Key, s.prefix), i.Size, i.LastModified})
		}
		return len(out) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return out, nil
}

// Dirs asks for common prefixes.
func (s *S3) Dirs(ctx context.Context, prefix string) ([]string, error) {
	var out []string
	err := s.list(ctx, minio.ListObjectsOptions{Prefix: s.prefix + prefix}, func(i minio.ObjectInfo) bool {
		if d, ok := strings.CutSuffix(strings.TrimPrefix(i.Key, s.prefix+prefix), "/"); ok && d != "" {
			out = append(out, d)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return out, nil
}

func (s *S3) list(ctx context.Context, opt minio.ListObjectsOptions, visit func(minio.ObjectInfo) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing when visit has enough
	for i := range s.c.ListObjects(ctx, s.bucket, opt) {
		if i.Err != nil {
			return i.Err
		}
		if !visit(i) {
			return nil
		}
	}
	return ctx.Err()
}

// Delete removes a thousand objects with one request.
func (s *S3) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := CheckKey(k); err != nil {
			return err
		}
	}
	ch := make(chan minio.ObjectInfo)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(ch)
		for _, k := range keys {
			select {
			case ch <- minio.ObjectInfo{Key: s.prefix + k}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var errs []error
	for e := range s.c.RemoveObjects(ctx, s.bucket, ch, minio.RemoveObjectsOptions{}) {
		if err := s.wrap("delete", strings.TrimPrefix(e.ObjectName, s.prefix), e.Err); !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
