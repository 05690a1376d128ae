package clickhouse

import (
	"fmt"
	"net"
	"regexp"
)

var clusterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// leastSecret is the shortest secret of a cluster, in characters.
const leastSecret = 16

// check says what of c cannot be used.
func (c *Cluster) check() error {
	if !clusterName.MatchString(c.Name) {
		return fmt.Errorf("name %q: only letters, digits and _ are allowed, at most 64", c.Name)
	}
	if c.Shard < 1 || c.Shard > len(c.Addrs) {
		return fmt.Errorf("shard %d is none of the %d addresses; they count from 1", c.Shard, len(c.Addrs))
	}
	for _, a := range c.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("address of a shard: %w", err)
		}
	}
	if len(c.Secret) < leastSecret {
		return fmt.Errorf("the secret has %d characters; at least %d are needed", len(c.Secret), leastSecret)
	}
	if c.AdminPassword == "" || c.WriterPassword == "" {
		return fmt.Errorf("the passwords that all servers share are missing")
	}
	return nil
}
