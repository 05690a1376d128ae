package collect

import (
	"iter"
	"log/slog"
	"strings"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// registry knows which CDN a host belongs to, from the bucket cdns.
type registry struct {
	*mirror.Table[*schemas.CDN]
	byHost *mirror.Derived[map[string]string]
}

func newRegistry(logger *slog.Logger) *registry {
	t := mirror.New(schemas.BucketCDNs, schemas.ParseCDN, logger)
	return &registry{t, mirror.Derive(t, func(all iter.Seq2[string, *schemas.CDN]) map[string]string {
		names := map[string]string{}
		for name, c := range all {
			if _, host, ok := strings.Cut(c.BaseURL, "://"); ok {
				host, _, _ = strings.Cut(host, "/")
				names[strings.ToLower(host)] = name
			}
		}
		return names
	})}
}

// cdn gives the name of the CDN that serves at host (with port, if not the default one), or "".
func (r *registry) cdn(host string) string { return r.byHost.Get()[host] }
