package load

import (
	"hash/maphash"
	"strings"
	"sync"
)

// shards is how many parts the sessions are in, each with a lock of its own: who
// looks at all of them holds up one part at a time.
const shards = 256

// key stands for a session's id: 128 bits of hashes whose seeds nobody outside
// knows, so two sessions do not have the same one.
type key struct{ a, b uint64 }

// shard holds the sessions of some keys, in memory without pointers.
type shard struct {
	mu   sync.Mutex
	by   map[key]uint32 // in all
	all  []session
	free []uint32 // of all
}

// of locks the part that an id is in.
func (l *Table) of(id string) (*shard, key) {
	k := key{maphash.String(l.seeds[0], id), maphash.String(l.seeds[1], id)}
	s := &l.sessions[k.a%shards]
	s.mu.Lock()
	return s, k
}

// get gives a session until the shard is unlocked or another is made; nil: it is not known.
func (h *shard) get(k key) *session {
	at, ok := h.by[k]
	if !ok {
		return nil
	}
	return &h.all[at]
}

func (h *shard) make(k key) *session {
	if h.by == nil {
		h.by = map[key]uint32{}
	}
	at := uint32(len(h.all))
	if n := len(h.free); n > 0 {
		at, h.free = h.free[n-1], h.free[:n-1]
		h.all[at] = session{}
	} else {
		h.all = append(h.all, session{})
	}
	h.by[k] = at
	return &h.all[at]
}

func (h *shard) remove(k key) {
	h.free = append(h.free, h.by[k])
	delete(h.by, k)
}

// shrink gives memory back when a crowd has gone.
func (h *shard) shrink() {
	if len(h.all) < 1024 || len(h.by) > len(h.all)/4 {
		return
	}
	by, all := make(map[key]uint32, len(h.by)), make([]session, 0, 2*len(h.by))
	for k, at := range h.by {
		by[k] = uint32(len(all))
		all = append(all, h.all[at])
	}
	h.by, h.all, h.free = by, all, nil
}

// name stands for that of a CDN or region.
type name uint16

// nowhere is the name of no CDN, and of an unknown region.
const nowhere name = 0

// maxNames bounds them. There are hundreds; whoever has more has them counted as nowhere.
const maxNames = 1 << 16

// lexicon gives names their numbers. It forgets none.
type lexicon struct {
	mu    sync.RWMutex
	by    map[string]name
	words []string
}

func newLexicon() lexicon { return lexicon{by: map[string]name{"": nowhere}, words: []string{""}} }

func (x *lexicon) of(word string) name {
	x.mu.RLock()
	n, ok := x.by[word]
	x.mu.RUnlock()
	if ok {
		return n
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if n, ok = x.by[word]; ok || len(x.words) == maxNames {
		return n
	}
	n = name(len(x.words))
	word = strings.Clone(word) // not the message that it is part of
	x.by[word], x.words = n, append(x.words, word)
	return n
}

func (x *lexicon) word(n name) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.words[n]
}
