package loader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// inserter holds one connection, made when needed and thrown away after an error.
type inserter struct {
	ClickHouse
	client *ch.Client
}

// insert writes one block. An error leaves open whether the block is in: repeat it with the same token.
func (i *inserter) insert(ctx context.Context, table, token string, in proto.Input) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if i.client == nil {
		c, err := ch.Dial(ctx, ch.Options{
			Address: i.Addr, User: i.User, Password: i.Password, Database: i.Database, ClientName: "spillway-loader",
			Compression: i.compression(), DialTimeout: 3 * time.Second, HandshakeTimeout: 10 * time.Second, ReadTimeout: time.Minute,
			Settings: []ch.Setting{
				// Each was seen to matter for exactly-once: see the package comment.
				ch.SettingInt("async_insert", 0),
				ch.SettingInt("insert_deduplicate", 1),
				// Newer servers ask this one instead; older ones do not know it, and need not.
				{Key: "deduplicate_insert", Value: "enable"},
				ch.SettingInt("deduplicate_blocks_in_dependent_materialized_views", 1),
				ch.SettingInt("max_insert_block_size", 10_000_000),
				// Rows of a view are grouped by their table's order already: grouping them again took 1.2 us an event.
				ch.SettingInt("optimize_on_insert", 0),
				// Merges make them: until then a part is small and read as a whole. 0.6 us an event.
				ch.SettingInt("materialize_skip_indexes_on_insert", 0),
				ch.SettingInt("materialize_statistics_on_insert", 0),
				// On a cluster an insert is done when every shard has its rows, not when they wait to be sent.
				ch.SettingInt("distributed_foreground_insert", 1),
				// A block with rows of many days must not be refused for ever.
				ch.SettingInt("max_partitions_per_insert_block", 0),
			},
		})
		if err != nil {
			return fmt.Errorf("connect to ClickHouse at %s: %w", i.Addr, err)
		}
		i.client = c
	}
	// The client looks at ctx between packets only; a server that hangs sends none.
	client := i.client
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	err := client.Do(ctx, ch.Query{
		Body: in.Into(table), Input: in,
		Settings: []ch.Setting{{Key: "insert_deduplication_token", Value: token, Important: true}},
	})
	if err != nil {
		i.close()
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// compression is none where the server is on this machine: making blocks small and large again costs both sides
// more than the bytes between them.
func (i *inserter) compression() ch.Compression {
	host, _, err := net.SplitHostPort(i.Addr)
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return ch.CompressionDisabled
	}
	return ch.CompressionLZ4
}

func (i *inserter) close() {
	if i.client != nil {
		_ = i.client.Close()
		i.client = nil
	}
}

// refused says that the server itself turned the insert down, as opposed to being away.
func refused(err error) bool {
	var e *ch.Exception
	return errors.As(err, &e)
}
