package clickhouse

import (
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// layout is where things lie in a data directory.
type layout struct{ dir string }

func (l layout) lock() string        { return filepath.Join(l.dir, "lock") }
func (l layout) credentials() string { return filepath.Join(l.dir, "credentials.json") }
func (l layout) db() string          { return filepath.Join(l.dir, "db") }
func (l layout) server() string      { return filepath.Join(l.dir, "server") }
func (l layout) config() string      { return filepath.Join(l.server(), "config.xml") }
func (l layout) users() string       { return filepath.Join(l.server(), "users.xml") }
func (l layout) log() string         { return filepath.Join(l.server(), "clickhouse.log") }
func (l layout) console() string     { return filepath.Join(l.server(), "console.log") }

// configValues fills the two templates.
type configValues struct {
	UsersFile, LogFile          string
	TmpDir, UserFiles           string
	Memory                      int64 // bytes, for the whole server
	MarkCache, IndexCache       int64 // bytes
	WriterMemory, AnalystMemory int64 // bytes a query
	QueryLog                    bool
	AdminSHA256, WriterSHA256   string // hex
	Networks                    []string
	Database                    string
	Anonymous                   bool // whoever names no user over HTTP is the analyst
	Cluster                     *Cluster
	Shards                      []hostPort
}

type hostPort struct{ Host, Port string }

func newConfigValues(o Options, l layout, c credentials) configValues {
	v := configValues{
		UsersFile: l.users(), LogFile: l.log(),
		TmpDir: filepath.Join(l.db(), "tmp") + "/", UserFiles: filepath.Join(l.db(), "user_files") + "/",
		Memory:        o.MemoryLimitBytes,
		MarkCache:     o.MemoryLimitBytes / 64,
		IndexCache:    o.MemoryLimitBytes / 128,
		WriterMemory:  o.MemoryLimitBytes / 4 * 3,
		AnalystMemory: o.MemoryLimitBytes / 4,
		QueryLog:      o.QueryLog,
		AdminSHA256:   sha256Hex(c.Admin), WriterSHA256: sha256Hex(c.Writer),
		Networks:  []string{"127.0.0.1", "::1"},
		Anonymous: true,
		Database:  Database,
		Cluster:   o.Cluster,
	}
	if o.Cluster != nil {
		for _, a := range o.Cluster.Addrs {
			host, port, _ := net.SplitHostPort(a) // checked by withDefaults
			v.Shards = append(v.Shards, hostPort{host, port})
		}
	}
	if ip := net.ParseIP(o.ListenHost); ip != nil && !ip.IsLoopback() {
		v.Networks = []string{"::/0"} // admin and writer have passwords
		v.Anonymous = false
	}
	return v
}

// configTemplate is config.xml. Sections that ClickHouse's own default file has and this one lacks stay off: the
// system log tables above all, which would keep merging on an idle machine.
//
// The HTTP rule makes whoever sends no credentials in headers the analyst, instead of "default", who cannot log on.
// Rules cannot see the query string, so "?user=" is not heeded on that path. When others than loopback can reach
// the server there is no such rule: who names nobody is refused.
const configTemplate = `<!-- Written at every start; changes are lost. -->
<clickhouse>
  <users_config>{{.UsersFile | xml}}</users_config>
  <logger><console>0</console><log>{{.LogFile | xml}}</log><size>10M</size><count>2</count></logger>
  <tmp_path>{{.TmpDir | xml}}</tmp_path>
  <user_files_path>{{.UserFiles | xml}}</user_files_path>
  <timezone>UTC</timezone>
  <max_connections>1024</max_connections>
  <max_concurrent_queries>200</max_concurrent_queries>
  <keep_alive_timeout>60</keep_alive_timeout>

  <max_server_memory_usage>{{.Memory}}</max_server_memory_usage>
  <mark_cache_size>{{.MarkCache}}</mark_cache_size>
  <index_mark_cache_size>{{.IndexCache}}</index_mark_cache_size>
  <primary_index_cache_size>{{.IndexCache}}</primary_index_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <compiled_expression_cache_size>16777216</compiled_expression_cache_size>
  <mmap_cache_size>64</mmap_cache_size>
  <jemalloc_enable_background_threads>1</jemalloc_enable_background_threads>

  <max_thread_pool_size>2000</max_thread_pool_size>
  <max_thread_pool_free_size>8</max_thread_pool_free_size>
  <max_io_thread_pool_size>8</max_io_thread_pool_size>
  <max_io_thread_pool_free_size>0</max_io_thread_pool_free_size>
  <background_pool_size>4</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <background_schedule_pool_initial_size>2</background_schedule_pool_initial_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
  <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
  <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
  <merge_tree>
    <!-- nothing asks for them, and counting the distinct values of every column cost 0.4 us a row of telemetry -->
    <auto_statistics_types></auto_statistics_types>
    <!-- their defaults are for a pool of 32 and are refused with a smaller one -->
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>4</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>4</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>4</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
{{- with .Cluster}}
  <remote_servers>
    <{{.Name}}>
      <secret>{{.Secret | xml}}</secret>
      {{- range $.Shards}}
      <shard><internal_replication>true</internal_replication><replica><host>{{.Host | xml}}</host><port>{{.Port | xml}}</port></replica></shard>
      {{- end}}
    </{{.Name}}>
  </remote_servers>
  <macros><shard>{{.Shard}}</shard><replica>1</replica></macros>
{{- end}}
{{- if .QueryLog}}
  <query_log>
    <database>system</database><table>query_log</table>
    <ttl>event_date + INTERVAL 1 DAY DELETE</ttl>
    <flush_interval_milliseconds>7500</flush_interval_milliseconds>
  </query_log>
  <query_views_log>
    <database>system</database><table>query_views_log</table>
    <ttl>event_date + INTERVAL 1 DAY DELETE</ttl>
    <flush_interval_milliseconds>7500</flush_interval_milliseconds>
  </query_views_log>
  <part_log>
    <database>system</database><table>part_log</table>
    <ttl>event_date + INTERVAL 1 DAY DELETE</ttl>
    <flush_interval_milliseconds>7500</flush_interval_milliseconds>
  </part_log>
{{- end}}

  <access_control_improvements>
    <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>
    <select_from_information_schema_requires_grant>false</select_from_information_schema_requires_grant>
    <settings_constraints_replace_previous>true</settings_constraints_replace_previous>
    <table_engines_require_grant>true</table_engines_require_grant>
    <enable_read_write_grants>true</enable_read_write_grants>
  </access_control_improvements>

{{- if .Anonymous}}

  <http_handlers>
    <rule>
      <url>/</url>
      <methods>POST,GET</methods>
      <headers><Authorization><![CDATA[regex:^$]]></Authorization><X-ClickHouse-User><![CDATA[regex:^$]]></X-ClickHouse-User></headers>
      <handler><type>dynamic_query_handler</type><query_param_name>query</query_param_name><user>analyst</user></handler>
    </rule>
    <defaults/>
  </http_handlers>
{{- end}}
</clickhouse>
`

// usersTemplate is users.xml.
//
// "default" cannot be left out or renamed: ClickHouse runs the launcher's own statements as that user, from
// 127.0.0.1, with no password. Its one allowed session is therefore the launcher's, which opens before the
// listeners do and never ends: everyone else is refused, and could do little with these grants anyway.
const usersTemplate = `<!-- Written at every start; changes are lost. -->
<clickhouse>
  <profiles>
    <default>
      <max_memory_usage>{{.WriterMemory}}</max_memory_usage>
      <async_insert>0</async_insert>
      <insert_deduplicate>1</insert_deduplicate>
      <deduplicate_blocks_in_dependent_materialized_views>1</deduplicate_blocks_in_dependent_materialized_views>
      <log_queries>{{if .QueryLog}}1{{else}}0{{end}}</log_queries>
    </default>
    <launcher>
      <max_sessions_for_user>1</max_sessions_for_user>
      <constraints><max_sessions_for_user><const/></max_sessions_for_user></constraints>
    </launcher>
    <analyst>
      <readonly>2</readonly>
      <max_execution_time>30</max_execution_time>
      <max_memory_usage>{{.AnalystMemory}}</max_memory_usage>
      <max_memory_usage_for_user>{{.AnalystMemory}}</max_memory_usage_for_user>
      <max_result_rows>1000000</max_result_rows>
      <result_overflow_mode>throw</result_overflow_mode>
      <max_concurrent_queries_for_user>50</max_concurrent_queries_for_user>
      <distributed_product_mode>global</distributed_product_mode>
      <log_queries>{{if .QueryLog}}1{{else}}0{{end}}</log_queries>
      <constraints>
        <!-- 0 means no limit, hence the lower bounds; the upper ones leave room for a client's own deadline -->
        <max_execution_time><min>1</min><max>120</max></max_execution_time>
        <max_memory_usage><min>1</min><max>{{.AnalystMemory}}</max></max_memory_usage>
        <max_memory_usage_for_user><const/></max_memory_usage_for_user>
        <!-- not on a cluster: what one server asks another has no limit of rows, which would become this 1 -->
        <max_result_rows>{{if not .Cluster}}<min>1</min>{{end}}<max>10000000</max></max_result_rows>
        <max_concurrent_queries_for_user><const/></max_concurrent_queries_for_user>
      </constraints>
    </analyst>
  </profiles>
  <quotas><default></default></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>launcher</profile><quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN, KILL QUERY ON *.*</query>
        <query>GRANT SELECT ON system.processes</query>
      </grants>
    </default>
    <admin>
      <password_sha256_hex>{{.AdminSHA256}}</password_sha256_hex>
      <networks>{{range .Networks}}<ip>{{.}}</ip>{{end}}</networks>
      <profile>default</profile><quota>default</quota>
      <default_database>{{.Database}}</default_database>
    </admin>
    <writer>
      <password_sha256_hex>{{.WriterSHA256}}</password_sha256_hex>
      <networks>{{range .Networks}}<ip>{{.}}</ip>{{end}}</networks>
      <profile>default</profile><quota>default</quota>
      <default_database>{{.Database}}</default_database>
      <grants><query>GRANT INSERT, SELECT ON {{.Database}}.*</query></grants>
    </writer>
    <analyst>
      <password></password>
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>analyst</profile><quota>default</quota>
      <default_database>{{.Database}}</default_database>
      <grants><query>GRANT SELECT ON {{.Database}}.*</query></grants>
    </analyst>
  </users>
</clickhouse>
`

// fileGuard replaces ClickHouse's file() by a function that always fails. ClickHouse asks for no grant before
// that function reads a file, any file, and prefers a user-made function of the same name, though it refuses to
// make one by SQL. The launcher also confines the process, where the kernel can; this holds on any kernel.
const fileGuard = "CREATE FUNCTION file AS (path) -> throwIf(1, 'reading files is switched off')\n"

// writeConfig writes all that ClickHouse reads at its start. The caller holds the data directory's lock.
func writeConfig(o Options, l layout, c credentials) error {
	for _, dir := range []string{l.server(), l.db(), filepath.Join(l.db(), "metadata"),
		filepath.Join(l.db(), "user_defined"), filepath.Join(l.db(), "user_files")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	v := newConfigValues(o, l, c)
	for path, tmpl := range map[string]string{l.config(): configTemplate, l.users(): usersTemplate} {
		text, err := render(tmpl, v)
		if err != nil {
			return err
		}
		if err := replaceFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := replaceFile(filepath.Join(l.db(), "user_defined", "function_file.sql"), []byte(fileGuard), 0o600); err != nil {
		return err
	}
	// Databases are declared by file before the first start. For "system" there is no other way: made by
	// ClickHouse itself it would not be persistent, and its log tables break after the first restart.
	for _, db := range []string{"system", Database} {
		if err := declareDatabase(filepath.Join(l.db(), "metadata", db+".sql")); err != nil {
			return err
		}
	}
	return nil
}

func declareDatabase(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var u [16]byte
	_, _ = rand.Read(u[:])  // never fails
	u[6] = u[6]&0x0f | 0x40 // version 4
	u[8] = u[8]&0x3f | 0x80 // RFC 9562 variant
	sql := fmt.Sprintf("ATTACH DATABASE _ UUID '%x-%x-%x-%x-%x'\nENGINE = Atomic\n", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	return replaceFile(path, []byte(sql), 0o640)
}

func render(text string, v configValues) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap{"xml": escapeXML}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse configuration template: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return b.String(), nil
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
