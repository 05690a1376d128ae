package launcher

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is the part of libchdb.so's C interface that hosting a server takes.
type library struct {
	queryCmdline     func(argc int32, argv unsafe.Pointer) uintptr
	resultError      func(result uintptr) string
	setSignalHandler func(enabled int32)
}

// loadLibrary opens the shared library and binds the functions.
func loadLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse library: %w (it needs glibc; musl systems cannot run it)", err)
	}
	lib := &library{}
	for name, fn := range map[string]any{
		"chdb_query_cmdline":               &lib.queryCmdline,
		"chdb_result_error":                &lib.resultError,
		"chdb_set_signal_handlers_enabled": &lib.setSignalHandler,
	} {
		sym, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("find %s in %s: %w", name, path, err)
		}
		purego.RegisterFunc(fn, sym)
	}
	return lib, nil
}

// run calls ClickHouse's main with args and returns when it ends, which is the server's whole life. It can be
// called once per process. An empty error text does not mean success: failures while booting come without one.
func (lib *library) run(args []string) string {
	argv := make([]*byte, len(args)+1) // NULL-terminated, as for any main
	var pin runtime.Pinner
	defer pin.Unpin()
	for i, a := range args {
		b := append([]byte(a), 0)
		argv[i] = &b[0]
		pin.Pin(argv[i])
	}
	pin.Pin(&argv[0])
	res := lib.queryCmdline(int32(len(args)), unsafe.Pointer(&argv[0]))
	if res == 0 {
		return ""
	}
	return lib.resultError(res)
}
