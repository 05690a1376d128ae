package launcher

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readable lists what ClickHouse needs to read outside its own folders: the C library's parts and data, name
// resolution, certificates, devices, and the kernel's figures. Missing ones are skipped.
func readable() []string {
	return []string{
		"/dev", "/sys", "/usr", "/lib", "/lib64",
		// Not all of /proc: other processes' environments hold secrets.
		"/proc/self", "/proc/sys", "/proc/cpuinfo", "/proc/diskstats", "/proc/filesystems", "/proc/loadavg",
		"/proc/meminfo", "/proc/pressure", "/proc/stat", "/proc/uptime", "/proc/version", "/proc/vmstat",
		"/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache", "/etc/localtime",
		"/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates",
	}
}

// errNoLandlock says that the kernel cannot confine the process.
var errNoLandlock = errors.New("the kernel has no Landlock (needs Linux 5.19 or later, with it switched on)")

// confine takes away the calling thread's right to read files outside own and readable, and that of all threads
// it starts from then on. It must run on the thread that goes on to run ClickHouse, after the library is loaded.
//
// Why: "clickhouse local" trusts its user, so SQL such as file('/home/me/.ssh/id_rsa') reads any file with no
// grant needed. Here SQL comes from others.
func confine(own []string) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 2 { // version 1 forbids every rename from one folder to another, which merges need
		return errNoLandlock
	}
	const rights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REFER
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	// The size of the structure's first version: later fields would be refused by older kernels.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("create a Landlock ruleset: %w", errno)
	}
	// A rule belongs to an inode, and /proc makes new ones for folders nobody holds: this descriptor stays open.
	if _, err := unix.Open("/proc/self", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("hold /proc/self: %w", err)
	}
	ruleset := int(fd)
	defer unix.Close(ruleset)
	for _, path := range own {
		if err := allow(ruleset, path, rights); err != nil {
			return err
		}
	}
	for _, path := range readable() {
		err := allow(ruleset, path, unix.LANDLOCK_ACCESS_FS_READ_FILE|unix.LANDLOCK_ACCESS_FS_READ_DIR)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("apply the Landlock ruleset: %w", errno)
	}
	return nil
}

// allow grants rights beneath path (or to it, if it is a file).
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= unix.LANDLOCK_ACCESS_FS_READ_FILE // the others mean nothing for a file and are refused
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow reading %s: %w", path, errno)
	}
	return nil
}
