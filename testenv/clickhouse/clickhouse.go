// Package clickhouse runs a real ClickHouse server as a child process, for `spillway up` and for tests, on a
// machine where nobody installed one.
//
// The server is the library that the npm package @chdb/lib-linux-x64-gnu ships, pinned to one version and one
// hash, fetched once into a per-user cache. It promises: data survive a stop and a kill -9 of the server or of
// its parent; an insert repeated with the same deduplication token after a crash is stored exactly once, in the
// table and in its materialized views; no orphan outlives the parent; connections with garbage or wrong passwords
// do not end it; SQL from the analyst can neither write nor read anything but the spillway database.
//
// It leaves out what the library cannot do: async_insert (inserts are silently synchronous), ReplicatedMergeTree,
// SQL-made users, TLS, and every platform but Linux on x86-64 with AVX2 and glibc. Who needs those runs a
// ClickHouse server of their own and gives its URL; the errors say so.
package clickhouse

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Database is the database that Spillway's tables live in. It exists from the first start on.
const Database = "spillway"

// LauncherSubcommand is the hidden first argument under which a program that embeds this package must call
// RunLauncher, first thing in main:
//
//	if len(os.Args) > 1 && os.Args[1] == clickhouse.LauncherSubcommand {
//		os.Exit(clickhouse.RunLauncher(os.Args[2:]))
//	}
const LauncherSubcommand = "clickhouse-server"

// remedy ends every message about a machine that cannot run the embedded server.
const remedy = "use a ClickHouse server of your own instead: --clickhouse URL"

// ErrUnsupported says that this machine cannot run the embedded server at all, whatever is installed on it.
var ErrUnsupported = errors.New("the embedded ClickHouse cannot run on this machine")

// Options are the settings of a Server. Only DataDir is needed.
type Options struct {
	// DataDir holds the data, configuration, passwords and log of one server. It is made when missing. Only one
	// server can use it at a time; Start waits up to ten seconds for a predecessor to finish.
	DataDir string
	// TCPPort is the native protocol's port; 0 takes a free one.
	TCPPort int
	// HTTPPort is the HTTP interface's port; 0 takes a free one.
	HTTPPort int
	// ListenHost is the IP address to listen on; default 127.0.0.1. The analyst needs no password and is
	// therefore answered from this machine only, whatever this says; the other users are reachable on all addresses
	// once it is not loopback.
	ListenHost string
	// CacheDir holds the fetched library; default the user's cache folder (os.UserCacheDir) plus "spillway".
	CacheDir string
	// Library is the path of a libchdb.so to use instead of the fetched one. It is not verified.
	Library string
	// MemoryLimitBytes caps the server's memory; default 4 GiB. Caches and query limits follow from it.
	MemoryLimitBytes int64
	// LogLevel is ClickHouse's: none, fatal, critical, error, warning, notice, information, debug, trace;
	// default warning. The log is in DataDir/server.
	LogLevel string
	// QueryLog switches system.query_log, query_views_log and part_log on, kept for a day. Off by default: they cost
	// merges when nobody looks.
	QueryLog bool
	// Cluster makes the server one of several, each a shard without replicas; nil: it knows of no other.
	Cluster *Cluster
	// LauncherCommand is the command, without the launcher's own arguments, of a program that calls RunLauncher.
	// Default: this program itself with LauncherSubcommand, or inside a test binary, which cannot do that, the
	// program ./chserver, built once into CacheDir.
	LauncherCommand []string
	// Logger takes state changes; default discards them.
	Logger *slog.Logger
	// Progress takes lines for people while the library is fetched; default discards them.
	Progress io.Writer
}

// Cluster is what one server of several is told: who the others are and which one it is. ReplicatedMergeTree and ON
// CLUSTER are not to be had here, so each shard has one server.
type Cluster struct {
	// Name of the cluster in system.clusters: letters, digits and _.
	Name string
	// Addrs are the native addresses (host:port) of all shards in order, this server's among them.
	Addrs []string
	// Shard is this server's number, from 1; the macro {shard} has it.
	Shard int
	// Secret is known to all of them and lets them ask each other as the user who asked; at least 16 characters.
	Secret string
	// AdminPassword and WriterPassword are the same on all servers, so that one data source name suits any of them.
	// They replace those of the data directory.
	AdminPassword, WriterPassword string
}

// User names one of the server's three accounts.
type User string

// The accounts. Their passwords are made at random per DataDir and kept in it, readable by its owner alone.
const (
	// Admin may do everything; migrations use it.
	Admin User = "admin"
	// Writer may INSERT into and SELECT from Database.
	Writer User = "writer"
	// Analyst may only SELECT from Database, within limits of time, memory and result size. It has no password
	// and is answered from this machine only. A request over HTTP without credentials in its headers is the analyst's,
	// as long as the server listens on loopback alone.
	Analyst User = "analyst"
)

// PID is the server process's id.
func (s *Server) PID() int { return s.pid }

// Version is ClickHouse's own version, such as "26.7.2.1".
func (s *Server) Version() string { return s.version }

// DataDir is where the server keeps everything.
func (s *Server) DataDir() string { return s.opts.DataDir }

// NativeAddr is host:port of the native protocol, for clickhouse-go's Options.Addr.
func (s *Server) NativeAddr() string { return net.JoinHostPort(s.dialHost(), strconv.Itoa(s.tcpPort)) }

// HTTPAddr is host:port of the HTTP interface.
func (s *Server) HTTPAddr() string { return net.JoinHostPort(s.dialHost(), strconv.Itoa(s.httpPort)) }

// Password is u's password; empty for the analyst.
func (s *Server) Password(u User) string { return s.creds.password(u) }

// NativeURL is a data source name with credentials, as clickhouse-go's ParseDSN and sql.Open take it.
func (s *Server) NativeURL(u User) string {
	return (&url.URL{Scheme: "clickhouse", User: s.userinfo(u), Host: s.NativeAddr(), Path: "/" + Database}).String()
}

// HTTPURL is the HTTP interface's URL with u's credentials in it, ending in a slash. Clients send such credentials
// as a header, which they must: "?user=...&password=..." is not heeded (see Analyst).
func (s *Server) HTTPURL(u User) string {
	return (&url.URL{Scheme: "http", User: s.userinfo(u), Host: s.HTTPAddr(), Path: "/"}).String()
}

// AnalystURL answers SQL as the analyst: POSTed to it as the body, or appended as "&query=...". It holds no
// userinfo, which some HTTP clients refuse.
func (s *Server) AnalystURL() string {
	return (&url.URL{Scheme: "http", Host: s.HTTPAddr(), Path: "/", RawQuery: "user=" + string(Analyst)}).String()
}

func (s *Server) userinfo(u User) *url.Userinfo {
	if p := s.Password(u); p != "" {
		return url.UserPassword(string(u), p)
	}
	return url.User(string(u))
}

// dialHost is where a client on this machine finds the server.
func (s *Server) dialHost() string {
	ip := net.ParseIP(s.opts.ListenHost)
	switch {
	case ip == nil || !ip.IsUnspecified():
		return s.opts.ListenHost
	case strings.Contains(s.opts.ListenHost, ":"):
		return "::1"
	default:
		return "127.0.0.1"
	}
}
