// Package vmtest runs tests in a virtual machine, on network devices that this
// machine does not have and Linux has zero-copy drivers for: what the word
// zero-copy rests on in this repository.
//
//	go test                        virtual machine (QEMU, software emulation)
//	┌─────────────────────┐        ┌──────────────────────────────────────┐
//	│ vmtest              │        │ Debian kernel, our test binary as    │
//	│  kernel, QEMU: apt  │ initrd │ its first process (vmtest/guest)     │
//	│  guest: go test -c  ├───────>│                                      │
//	│                     │ serial │ igb ─────┐ igb     in a namespace    │
//	│  sub-tests <────────┤<───────┤ virtio ┐ └─ hub of QEMU              │
//	└─────────────────────┘        │        └─ virtio   each, see lab     │
//	                               └──────────────────────────────────────┘
//
// Each device on the AF_XDP side is joined with one on the kernel's side by a
// hub inside QEMU, and becomes a lab (package lab) in the guest. The tests of
// package guest run there and appear as sub-tests here. No KVM is used, nor
// anything of the machine's own network; root is needed only for a tap, which
// the virtio device with two queues hangs on.
//
// # What it needs
//
// An amd64 Debian or a relative of it: apt and dpkg-deb fetch and unpack
// packages into a directory of the user's, by lists of apt's that belong to this
// package alone; nothing is installed. A qemu-system-x86_64 in PATH that knows
// igb (8.0) is taken, otherwise Debian's, with all its libraries. Kernels are
// asked for by series ("6.18") and the latest that the archive has is taken. apt
// checks the archive's signature and every package's SHA-256; what is kept in
// the cache is checked again each time. With a filled cache no network is
// needed.
//
// The cache is in os.UserCacheDir, below afxnet/vmtest, some 200 MB; deleting it is
// safe.
//
// # What comes of it
//
// TestZeroCopy runs everything on one kernel, in two machines of 1 GB, beside that of
// TestOldKernel, which tries the refusals on a kernel that is too old. TestMatrix, on
// demand, tries every mode on every device and several kernels; what it found is kept
// in testdata, and is the table in the README.
package vmtest
