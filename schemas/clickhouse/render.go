package clickhouse

import (
	"fmt"
	"regexp"
	"strings"
)

// shardKeys say by what the rows of a table are spread over shards: by the
// session where there is one, so that a session's rows of all tables are on one
// shard. Tables that are not named are filled on each shard by its materialized
// views, and nothing can be inserted into them through all shards.
func shardKeys() map[string]string {
	return map[string]string{
		TableTelemetry: "sipHash64(if(session_id = '', concat(app, '/', stream), session_id))",
		TableSlices:    "sipHash64(session_id)",
		TableDecisions: "sipHash64(if(session_id = '', id, session_id))",
		TableExposures: "sipHash64(if(session_id = '', unit, session_id))",
		TableEvents:    "sipHash64(id)",
	}
}

// Engines of the single-node files and what they become.
var (
	engine = regexp.MustCompile(`(?m)^ENGINE = ((?:Replacing|Aggregating|Summing)?MergeTree)(?:\(([^)]*)\))?`)
	window = regexp.MustCompile(`\bnon_replicated_deduplication_window = (\d+)`)
	after  = regexp.MustCompile(`(?m)^COMMENT '(?:[^'\\]|\\.)*'$`)
)

// What the columns of a Distributed table have not.
var (
	codec   = regexp.MustCompile(`(?m) CODEC\(.*\)(,?)$`)
	indexes = regexp.MustCompile(`(?:,\n +INDEX (?:[^,\n]|,[^\n])*)+`)
)

// dedupSeconds is how long replicated tables remember blocks: a loader that was down for a week may repeat one.
const dedupSeconds = 604800

// ClusterStatements are the file's statements for a cluster, to be given to
// each of c.Servers: a table becomes a table of the shard's own rows, replicated
// when the cluster is, and a Distributed one of the old name; materialized views
// run on each shard; other views are as they were and read all shards. tables
// are the names of all tables that this file and those before it make. Errors
// name a statement of a kind that there is no rule for.
func (f File) ClusterStatements(database string, c *Cluster, tables map[string]bool) ([]string, error) {
	r := renderer{database: database, c: c, tables: tables}
	var out []string
	for i, s := range f.Statements(database) {
		got, err := r.statement(s)
		if err != nil {
			return nil, fmt.Errorf("schema file %s, statement %d: %w", f.Name, i+1, err)
		}
		out = append(out, got...)
	}
	return out, nil
}

type renderer struct {
	database string
	c        *Cluster
	tables   map[string]bool
}

// statement rewrites one; comments before it stay.
func (r *renderer) statement(s string) ([]string, error) {
	i := 0
	for strings.HasPrefix(s[i:], "--") || strings.HasPrefix(s[i:], "\n") {
		i += strings.IndexByte(s[i:], '\n') + 1
	}
	comment, body := s[:i], s[i:]
	for verb, rewrite := range map[string]func(verb, name, rest string) ([]string, error){
		"CREATE TABLE IF NOT EXISTS ":             r.table,
		"CREATE MATERIALIZED VIEW IF NOT EXISTS ": r.materialized,
		"CREATE OR REPLACE VIEW ":                 r.view,
		"ALTER TABLE ":                            r.alter,
	} {
		if rest, ok := strings.CutPrefix(body, verb); ok {
			name, rest, ok := nameOf(rest, r.database)
			if !ok {
				return nil, fmt.Errorf("no name of a table behind %q", verb)
			}
			out, err := rewrite(verb, name, rest)
			if err == nil {
				out[0] = comment + out[0]
			}
			return out, err
		}
	}
	return nil, fmt.Errorf("there is no rule for clusters for %.60q", body)
}

func (r *renderer) table(verb, name, rest string) ([]string, error) {
	m := engine.FindStringSubmatchIndex(rest)
	if m == nil {
		return nil, fmt.Errorf("table %s: no engine of the MergeTree family on a line of its own", name)
	}
	r.tables[name] = true
	local := rest
	if r.c.Replicated {
		args := fmt.Sprintf("'/clickhouse/tables/{shard}/%s/%s', '{replica}'", r.database, Local(name))
		if m[4] >= 0 && m[5] > m[4] {
			args += ", " + rest[m[4]:m[5]]
		}
		local = rest[:m[0]] + "ENGINE = Replicated" + rest[m[2]:m[3]] + "(" + args + ")" + rest[m[1]:]
		local = window.ReplaceAllString(local, fmt.Sprintf("replicated_deduplication_window = $1, replicated_deduplication_window_seconds = %d", dedupSeconds))
	}
	key := ""
	if k := shardKeys()[name]; k != "" {
		key = ", " + k
	}
	all := indexes.ReplaceAllString(codec.ReplaceAllString(rest[:m[0]], "$1"), "") + fmt.Sprintf("ENGINE = Distributed('%s', '%s', '%s'%s)", r.c.Name, r.database, Local(name), key)
	if says := after.FindString(rest[m[1]:]); says != "" {
		all += "\n" + says
	}
	return []string{verb + r.database + "." + Local(name) + r.c.OnCluster() + local, verb + r.database + "." + name + r.c.OnCluster() + all}, nil
}

// materialized makes the view read and write the shard's own tables.
func (r *renderer) materialized(verb, name, rest string) ([]string, error) {
	var missing error
	tables := regexp.MustCompile(`\b(TO|FROM) ` + regexp.QuoteMeta(r.database) + `\.([a-z0-9_]+)`)
	rest = tables.ReplaceAllStringFunc(rest, func(s string) string {
		m := tables.FindStringSubmatch(s)
		if !r.tables[m[2]] {
			missing = fmt.Errorf("materialized view %s: %s is no table of this file or an earlier one", name, m[2])
		}
		return m[1] + " " + r.database + "." + Local(m[2])
	})
	return []string{verb + r.database + "." + name + r.c.OnCluster() + rest}, missing
}

// subquery is a comparison with rows of a table, which on a cluster are those of all its shards.
var subquery = regexp.MustCompile(`\b((?:NOT )?IN \(SELECT)\b`)

func (r *renderer) view(verb, name, rest string) ([]string, error) {
	rest = subquery.ReplaceAllString(rest, "GLOBAL $1")
	return []string{verb + r.database + "." + name + r.c.OnCluster() + rest}, nil
}

// alter changes the shard's own tables; a new column is in the Distributed one, too. Materialized views have other queries.
func (r *renderer) alter(verb, name, rest string) ([]string, error) {
	if strings.HasPrefix(rest, " MODIFY QUERY\n") {
		return r.materialized(verb, name, rest)
	}
	if !r.tables[name] {
		return nil, fmt.Errorf("ALTER TABLE %s: no table of this file or an earlier one", name)
	}
	local := rest
	if r.c.Replicated {
		local = window.ReplaceAllString(local, "replicated_deduplication_window = $1")
	}
	out := []string{verb + r.database + "." + Local(name) + r.c.OnCluster() + local}
	if strings.HasPrefix(rest, " ADD COLUMN") || strings.HasPrefix(rest, " COMMENT COLUMN") {
		out = append(out, verb+r.database+"."+name+r.c.OnCluster()+rest)
	}
	return out, nil
}
