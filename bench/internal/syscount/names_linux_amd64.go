package syscount

import "golang.org/x/sys/unix"

// legacyNames are calls that newer architectures do not have.
var legacyNames = map[int]string{unix.SYS_POLL: "poll", unix.SYS_EPOLL_WAIT: "epoll_wait"}
