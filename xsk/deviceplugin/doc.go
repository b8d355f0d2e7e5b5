// Package deviceplugin gets what the AF_XDP device plugin for Kubernetes has for a
// pod (github.com/redhat-et/afxdp-plugins-for-kubernetes, before that intel/...):
// the map of the program that the plugin has put on the pod's device, and busy
// polling. It speaks version 0.1 of the plugin's protocol.
//
//	plugin, on the node                    pod
//
//	program on the device, its map ------> Map: xsk.Map, for AddSocket
//	SO_PREFER_BUSY_POLL on a socket <----- BusyPoll
//
// The program redirects all that arrives on a queue with a socket: there are no
// addresses to claim, the device is the pod's alone. A stack over the sockets is that
// of netdev.NewOn.
//
// # What the pod still needs
//
// The pod makes its sockets itself, which takes CAP_NET_RAW
// (securityContext.capabilities.add) and, unless it has CAP_IPC_LOCK, a
// RLIMIT_MEMLOCK that its packet memory fits into; the runtime sets that, not the
// pod's specification. To put a socket into the map takes Linux 5.19 or CAP_BPF, and a
// seccomp profile that lets bpf(2) through. Package xsk/handover needs none of these,
// but a helper on the node or beside the process.
//
// # One connection
//
// The plugin accepts one connection in a pod's life, waits for it no longer than its
// timeout says (30 s at least), and takes its socket away when that connection ends:
// one Client gets everything that the pod needs.
package deviceplugin
