package clickhouse

import (
	"fmt"
)

// checkPlatform says in plain words why a machine cannot run the library, if it cannot. The library is built for
// Linux on x86-64 with AVX2.
func checkPlatform(goos, goarch string, avx2 bool) error {
	switch {
	case goos != "linux" || goarch != "amd64":
		return fmt.Errorf("%w: it exists for Linux on x86-64, this is %s/%s; %s", ErrUnsupported, goos, goarch, remedy)
	case !avx2:
		return fmt.Errorf("%w: it needs a processor with AVX2 (Intel since 2013, AMD since 2015; a virtual machine "+
			"must be given it); %s", ErrUnsupported, remedy)
	}
	return nil
}
