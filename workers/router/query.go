package router

import (
	"errors"
	"net/url"
	"strings"
)

// query holds a request's parameters in their order. A few are found sooner so
// than in a map that has to be made first.
type query []parameter

type parameter struct{ name, value string }

var errQuery = errors.New("the query has a semicolon")

// parseQuery reads what url.ParseQuery reads, and refuses what it refuses (FuzzQuery).
func parseQuery(raw string) (query, error) {
	q := make(query, 0, 8)
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		if strings.Contains(part, ";") {
			return nil, errQuery
		}
		name, value, _ := strings.Cut(part, "=")
		var err error
		if name, err = unescape(name); err != nil {
			return nil, err
		}
		if value, err = unescape(value); err != nil {
			return nil, err
		}
		q = append(q, parameter{name, value})
	}
	return q, nil
}

func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	return url.QueryUnescape(s)
}

// Get gives the first value of a name, empty where there is none.
func (q query) Get(name string) string {
	for i := range q {
		if q[i].name == name {
			return q[i].value
		}
	}
	return ""
}

// with gives the parameters with one of them as it should be.
func (q query) with(name, value string) query {
	return append(query{{name, value}}, q...)
}
