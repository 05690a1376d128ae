package keys

import (
	"crypto/aes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
)

// keyFile is what a key file says.
type keyFile struct {
	read   time.Time
	secret []byte     // keys are derived from it
	keys   []cenc.Key // or taken from here, in turn
}

// maxKeyFile is the longest key file that is read, bytes.
const maxKeyFile = 1 << 20

func filePath(address string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return u.Path, true
}

// file reads a key file once; what was read holds until it was unused for an hour.
func (r *Ring) file(path string) (*keyFile, error) {
	r.mu.Lock()
	f := r.files[path]
	r.mu.Unlock()
	if f != nil {
		return f, nil
	}
	b, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w: it must be readable on each machine that packages", err)
	}
	if f, err = parseKeyFile(b); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	f.read = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[path] = f
	return f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxKeyFile)
	}
	return b, err
}

// keyJSON is one key as files and services write it.
type keyJSON struct {
	KID string `json:"kid"`
	Key string `json:"key"`
	IV  string `json:"iv,omitempty"`
}

var errKeyFile = errors.New(`it must be {"secret":"<base64 of 32 bytes>"} or {"keys":[{"kid":"<32 hex digits>","key":"<32 hex digits>"},...]}`)

// parseKeyFile reads a key file. Its errors do not repeat what is in it.
func parseKeyFile(b []byte) (*keyFile, error) {
	var j struct {
		Secret string    `json:"secret"`
		Keys   []keyJSON `json:"keys"`
	}
	if json.Unmarshal(b, &j) != nil || (j.Secret == "") == (len(j.Keys) == 0) {
		return nil, errKeyFile
	}
	f := &keyFile{}
	if j.Secret != "" {
		var err error
		if f.secret, err = base64.StdEncoding.DecodeString(j.Secret); err != nil || len(f.secret) != 32 {
			return nil, fmt.Errorf("secret is not base64 of 32 bytes: %w", errKeyFile)
		}
		return f, nil
	}
	for i := range j.Keys {
		k, err := j.Keys[i].parse()
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		f.keys = append(f.keys, k)
	}
	return f, nil
}

// parse reads one key; without iv it is derived.
func (j *keyJSON) parse() (k cenc.Key, err error) {
	if k.KID, err = cenc.ParseKID(j.KID); err != nil {
		return k, err
	}
	key, err := sixteen(j.Key)
	if err != nil {
		return k, errors.New("key is not 16 bytes in hexadecimal digits or base64")
	}
	k.Key = key
	k.IV = cenc.IV(k.Key, k.KID)
	if j.IV != "" {
		if k.IV, err = sixteen(j.IV); err != nil {
			return k, errors.New("iv is not 16 bytes in hexadecimal digits or base64")
		}
	}
	return k, nil
}

func sixteen(s string) (out [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			if b, err = e.DecodeString(s); err == nil {
				break
			}
		}
	}
	if err != nil || len(b) != len(out) {
		return out, errors.New("not 16 bytes")
	}
	return [16]byte(b), nil
}

// key gives a stream's key of a period.
func (f *keyFile) key(k schemas.StreamKey, n uint64) (cenc.Key, error) {
	if f.secret == nil {
		return f.keys[n%uint64(len(f.keys))], nil
	}
	kid, err := f.kid(k, n)
	if err != nil {
		return cenc.Key{}, err
	}
	b, err := hkdf.Key(sha256.New, f.secret, []byte("spillway cbcs key"), string(binary.BigEndian.AppendUint64([]byte(k.String()+"/"), n)), 16)
	if err != nil {
		return cenc.Key{}, fmt.Errorf("derive key: %w", err)
	}
	out := cenc.Key{KID: kid, Key: [16]byte(b)}
	out.IV = cenc.IV(out.Key, out.KID)
	return out, nil
}

// kid derives a key id: one AES block under a key derived from the secret, of
// what names the stream and the number of the period. Who has the secret reads
// the period back, which a licence needs; to others it says nothing.
func (f *keyFile) kid(k schemas.StreamKey, n uint64) (id cenc.KID, err error) {
	key, err := hkdf.Key(sha256.New, f.secret, []byte("spillway cbcs key id"), "", 16)
	if err != nil {
		return id, fmt.Errorf("derive key id: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return id, fmt.Errorf("derive key id: %w", err)
	}
	var plain [16]byte
	copy(plain[:8], f.mark(k))
	binary.BigEndian.PutUint64(plain[8:], n)
	block.Encrypt(id[:], plain[:])
	return id, nil
}

// mark is what a stream is called in key ids.
func (f *keyFile) mark(k schemas.StreamKey) []byte {
	h := hmac.New(sha256.New, f.secret)
	h.Write([]byte("spillway stream/" + k.String()))
	return h.Sum(nil)[:8]
}

// byKID finds the key of a stream that an id names.
func (f *keyFile) byKID(k schemas.StreamKey, id cenc.KID) (cenc.Key, error) {
	if f.secret == nil {
		for _, key := range f.keys {
			if key.KID == id {
				return key, nil
			}
		}
		return cenc.Key{}, errors.New("the key file has none of this id")
	}
	key, err := hkdf.Key(sha256.New, f.secret, []byte("spillway cbcs key id"), "", 16)
	if err != nil {
		return cenc.Key{}, fmt.Errorf("derive key id: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return cenc.Key{}, fmt.Errorf("derive key id: %w", err)
	}
	var plain [16]byte
	block.Decrypt(plain[:], id[:])
	if !hmac.Equal(plain[:8], f.mark(k)) {
		return cenc.Key{}, errors.New("the id is not one of this stream")
	}
	return f.key(k, binary.BigEndian.Uint64(plain[8:]))
}
