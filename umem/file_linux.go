package umem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapFile maps the first size bytes of cfg.File, shared, to the end of a page. A file
// that is too short is refused: what lies behind its end would be a SIGBUS. So would
// what another process cuts off later; who makes the file seals it (F_SEAL_SHRINK).
func (r *Region) mapFile(cfg Config, size int) error {
	info, err := cfg.File.Stat()
	if err != nil {
		return err
	}
	conn, err := cfg.File.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := conn.Control(func(fd uintptr) {
		full := size
		if page := hugePagesOf(int(fd)); page != 0 {
			r.huge, full = true, wholePages(size, page)
		}
		if info.Size() < int64(full) {
			err = fmt.Errorf("%d bytes are needed, the file has %d: %w", full, info.Size(), unix.EINVAL)
			return
		}
		if cfg.HugePages != HugePagesOff && !r.huge {
			r.hugeErr = fmt.Errorf("the file lies on ordinary pages: %w", unix.EINVAL)
			if cfg.HugePages == HugePagesRequire {
				err = r.hugeErr
				return
			}
		}
		r.mem, r.unmap, err = mapPages(int(fd), full, unix.MAP_SHARED, cfg.Node)
	})
	if controlErr != nil {
		return controlErr
	}
	if err == nil {
		r.mem = r.mem[:size:size]
	}
	return err
}

// hugePagesOf returns the size of the huge pages that a file lies on, 0 if it lies on
// ordinary ones.
func hugePagesOf(fd int) int {
	var at unix.Statfs_t
	if err := unix.Fstatfs(fd, &at); err != nil || uint32(at.Type) != unix.HUGETLBFS_MAGIC {
		return 0
	}
	return int(at.Bsize)
}
