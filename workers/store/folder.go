package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Folder keeps objects as files. Several processes, also on several machines
// with a shared file system, may use one folder.
type Folder struct{ root string }

// Objects are written under temp and renamed; what a killed process left there
// is removed by whoever opens the folder a day later.
const (
	tempDir   = ".writing"
	tempStays = 24 * time.Hour
)

// NewFolder opens a folder, made when missing.
func NewFolder(root string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(root, tempDir), 0o755); err != nil {
		return nil, fmt.Errorf("store: make the folder: %w", err)
	}
	left, err := os.ReadDir(filepath.Join(root, tempDir))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, e := range left {
		if i, err := e.Info(); err == nil && time.Since(i.ModTime()) > tempStays {
			_ = os.Remove(filepath.Join(root, tempDir, e.Name())) // another process may have done it
		}
	}
	return &Folder{root}, nil
}

func (f *Folder) path(key string) string { return filepath.Join(f.root, filepath.FromSlash(key)) }

// Put writes a temporary file, syncs it, and renames it.
func (f *Folder) Put(_ context.Context, key string, data []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Join(f.root, tempDir), "o-")
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	_, err = tmp.Write(data)
	// Without the sync a power cut can leave the new name with no bytes behind it.
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = f.rename(tmp.Name(), f.path(key))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

func (f *Folder) rename(from, to string) error {
	dir := filepath.Dir(to)
	for attempt := 0; ; attempt++ {
		if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err := os.Rename(from, to)
		if err == nil {
			return syncDir(dir)
		}
		// Delete takes folders away that have become empty, perhaps this one just now.
		if !errors.Is(err, fs.ErrNotExist) || attempt == 20 {
			return err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what was written is deleted already
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Open opens the file.
func (f *Folder) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(key))
	if err != nil {
		return nil, f.wrap(key, err)
	}
	if offset > 0 {
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			file.Close()
			return nil, f.wrap(key, err)
		}
	}
	if length < 0 {
		return file, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, length), file}, nil
}

func (f *Folder) wrap(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	return fmt.Errorf("store %s: %w", key, err)
}

// Stat reads the file's size.
func (f *Folder) Stat(_ context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	i, err := os.Stat(f.path(key))
	if err == nil && i.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, f.wrap(key, err)
	}
	return Info{key, i.Size(), i.ModTime()}, nil
}

// List walks the folders in the order of keys.
func (f *Folder) List(ctx context.Context, prefix, after string, limit int) ([]Info, error) {
	var out []Info
	dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
	err := f.walk(ctx, dir, prefix, after, func(i Info) bool {
		out = append(out, i)
		return len(out) < limit
	})
	if err != nil && !errors.Is(err, fs.SkipAll) {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return out, nil
}

// walk visits what is in dir (empty, or ending in a slash); SkipAll ends it.
func (f *Folder) walk(ctx context.Context, dir, prefix, after string, visit func(Info) bool) error {
	names, err := f.entries(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		key := dir + name
		if sub := strings.HasSuffix(name, "/"); sub {
			// All below is before after, or outside of prefix.
			if key < after && !strings.HasPrefix(after, key) || !strings.HasPrefix(key, prefix) && !strings.HasPrefix(prefix, key) {
				continue
			}
			if err := f.walk(ctx, key, prefix, after, visit); err != nil {
				return err
			}
			continue
		}
		if key <= after || !strings.HasPrefix(key, prefix) {
			continue
		}
		i, err := f.Stat(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		if !visit(i) {
			return fs.SkipAll
		}
	}
	return nil
}

// entries gives a folder's content in the order of keys, folders with a slash.
func (f *Folder) entries(dir string) ([]string, error) {
	es, err := os.ReadDir(f.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(es))
	for _, e := range es {
		switch name := e.Name(); {
		case name[0] == '.':
		case e.IsDir():
			names = append(names, name+"/")
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names) // a folder's slash comes after a hyphen or a dot in another name
	return names, nil
}

// Dirs lists sub-folders.
func (f *Folder) Dirs(_ context.Context, prefix string) ([]string, error) {
	names, err := f.entries(prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	var out []string
	for _, n := range names {
		if d, ok := strings.CutSuffix(n, "/"); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

// Delete removes files, and folders that have become empty.
func (f *Folder) Delete(_ context.Context, keys ...string) error {
	var errs []error
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.Remove(f.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete %s: %w", key, err))
			continue
		}
		for dir := key; ; {
			i := strings.LastIndexByte(dir, '/')
			if i < 0 {
				break
			}
			dir = dir[:i]
			if os.Remove(f.path(dir)) != nil {
				break // not empty
			}
		}
	}
	return errors.Join(errs...)
}
