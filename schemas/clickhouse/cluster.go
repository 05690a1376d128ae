package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ErrForm says that a database was made in the other form, on one server or on
// a cluster, than the one it is to be migrated in.
var ErrForm = errors.New("database has the other form")

// ddlTimeout is how long the servers of a cluster get for one statement.
const ddlTimeout = 3 * time.Minute

// Cluster is a set of ClickHouse servers that hold the tables together: each
// shard has its sessions' rows in tables named ..._local, and tables with the
// names of the single-node form read all shards (engine Distributed). Rows go
// to a shard by a hash of the session's id, so a session is on one shard whole.
type Cluster struct {
	// Name of the cluster in system.clusters.
	Name string
	// Replicated tables keep copies of a shard on several servers. They take
	// ClickHouse Keeper, and statements then go to all servers by ON CLUSTER.
	// Without, every shard has one server, and each server is told by itself.
	Replicated bool

	servers []driver.Conn // one a server; none when Replicated
	own     driver.Conn
}

// FindCluster looks the named cluster up in conn's server. It is Replicated when
// the server has a Keeper. Otherwise open is called for each server's native
// address (host:port), with the same user and password as conn; Close closes
// those connections. Errors: the cluster is not known, with those that are; it
// has replicas and the server no Keeper; a server cannot be reached.
func FindCluster(ctx context.Context, conn driver.Conn, name string, open func(addr string) (driver.Conn, error)) (*Cluster, error) {
	addrs, replicas, err := clusterServers(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: name, own: conn}
	var keeper uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = 'system' AND name = 'zookeeper'").Scan(&keeper); err != nil {
		return nil, fmt.Errorf("ask whether ClickHouse has a Keeper: %w", err)
	}
	if c.Replicated = keeper > 0; c.Replicated {
		return c, nil
	}
	if replicas > 1 {
		return nil, fmt.Errorf("cluster %s has shards of %d replicas, but the server has no ClickHouse Keeper: name one in <zookeeper> of its configuration", name, replicas)
	}
	for _, a := range addrs {
		s, err := open(a)
		if err == nil {
			c.servers = append(c.servers, s)
			err = s.Ping(ctx)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect to %s of cluster %s: %w", a, name, err), c.Close())
		}
	}
	return c, nil
}

// clusterServers gives the native address of every server and the most replicas that a shard has.
func clusterServers(ctx context.Context, conn driver.Conn, name string) (addrs []string, replicas uint64, err error) {
	rows, err := conn.Query(ctx, `SELECT cluster, if(position(host_name, ':') > 0, '[' || host_name || ']', host_name) || ':' || toString(port), replica_num
		FROM system.clusters ORDER BY cluster, shard_num, replica_num`)
	if err != nil {
		return nil, 0, fmt.Errorf("list clusters: %w", err)
	}
	defer rows.Close()
	var known []string
	for rows.Next() {
		var cluster, addr string
		var replica uint32
		if err := rows.Scan(&cluster, &addr, &replica); err != nil {
			return nil, 0, fmt.Errorf("list clusters: %w", err)
		}
		known = append(known, cluster)
		if cluster == name {
			addrs, replicas = append(addrs, addr), max(replicas, uint64(replica))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("list clusters: %w", err)
	}
	if len(addrs) == 0 {
		return nil, 0, fmt.Errorf("ClickHouse knows no cluster %q, but %q: name it in <remote_servers> of its configuration", name, slices.Compact(known))
	}
	return addrs, replicas, nil
}

// Close ends the connections that FindCluster has opened; a nil Cluster has none.
func (c *Cluster) Close() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Servers are the connections over which every server is told: the one that
// ON CLUSTER goes by, or each server's own.
func (c *Cluster) Servers() []driver.Conn {
	if c.Replicated {
		return []driver.Conn{c.own}
	}
	return c.servers
}

// OnCluster is what follows a table's name in statements that Servers are told:
// " ON CLUSTER name", or nothing where each is told by itself.
func (c *Cluster) OnCluster() string {
	if c.Replicated {
		return " ON CLUSTER " + c.Name
	}
	return ""
}

// WithDDL gives statements to all servers the time they need, and errors of any.
func WithDDL(ctx context.Context, more clickhouse.Settings) context.Context {
	s := clickhouse.Settings{"distributed_ddl_task_timeout": int(ddlTimeout.Seconds()), "distributed_ddl_output_mode": "throw"}
	for k, v := range more {
		s[k] = v
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(s))
}

// Local is the name of the table that holds a shard's own rows.
func Local(table string) string { return table + "_local" }

// FormOf says whether the database's tables were made for a cluster, and whether there are any.
func FormOf(ctx context.Context, conn driver.Conn, database string) (cluster, exists bool, err error) {
	rows, err := conn.Query(ctx, "SELECT engine FROM system.tables WHERE database = ? AND name = ?", database, TableTelemetry)
	if err != nil {
		return false, false, fmt.Errorf("look at the tables of %s: %w", database, err)
	}
	defer rows.Close()
	for rows.Next() {
		var engine string
		if err := rows.Scan(&engine); err != nil {
			return false, false, fmt.Errorf("look at the tables of %s: %w", database, err)
		}
		cluster, exists = engine == "Distributed", true
	}
	return cluster, exists, rows.Err()
}

// checkForm refuses to mix the forms in one database.
func checkForm(ctx context.Context, conn driver.Conn, database string, c *Cluster) error {
	is, exists, err := FormOf(ctx, conn, database)
	switch {
	case err != nil || !exists || is == (c != nil):
		return err
	case is:
		return fmt.Errorf("%w: %s was made on a cluster: name it (--clickhouse-cluster), or use another server", ErrForm, database)
	}
	return fmt.Errorf("%w: %s was made on a single server: leave --clickhouse-cluster away, or begin with an empty database on the cluster and copy the rows (docs/operator.md)", ErrForm, database)
}

// nameOf cuts "db.name rest" after the name, which is given without the database.
func nameOf(s, database string) (name, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, database+".")
	i := strings.IndexFunc(s, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	if !ok || i <= 0 {
		return "", "", false
	}
	return s[:i], s[i:], true
}
