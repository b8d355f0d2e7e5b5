package vmtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Newest is the series of the latest kernel there is.
const Newest = "newest"

// keptPrefix begins the names of kernels in the store that have these modules.
var keptPrefix = fmt.Sprintf("linux-%08x-", crc32.ChecksumIEEE([]byte(strings.Join(modules, " "))))

// Kernel is a kernel to boot.
type Kernel struct {
	Release string   // as uname -r tells: "6.18.15+deb13-amd64"
	Image   string   // file
	Modules []string // files, in the order to load them
}

// modules are what the guest loads if the kernel has it, each after those it
// needs. All else is built in.
var modules = []string{
	"drivers/dca/dca",
	"drivers/i2c/algos/i2c-algo-bit",
	"drivers/pps/pps_core",
	"drivers/ptp/ptp",
	"drivers/net/ethernet/intel/igb/igb",
	"drivers/virtio/virtio", // these five are built in since some release between 6.1 and 6.12
	"drivers/virtio/virtio_ring",
	"drivers/virtio/virtio_pci_legacy_dev",
	"drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci",
	"net/core/failover",
	"drivers/net/net_failover",
	"drivers/net/virtio_net",
	"net/xdp/xsk_diag",
	"drivers/net/veth",
	"net/llc/llc",
	"net/802/stp",
	"net/802/garp",
	"net/802/mrp",
	"net/8021q/8021q",
	"net/tls/tls",
	"drivers/net/bonding/bonding",
}

// imagePackage is the package that has the image of a kernel with drivers for NICs
// (those for clouds have virtio only), since 6.19 the one
// called binary; modules are in it or in a third one, since 7.1.
var imagePackage = regexp.MustCompile(`^linux-(image|binary)-(([0-9]+)\.([0-9]+)\.([0-9]+)[^-]*?(?:-[0-9]+)?)-amd64$`)

// candidate is a kernel that the archive has.
type candidate struct {
	release string // "6.18.15+deb13-amd64"
	version [4]int
	split   bool // into linux-binary and linux-modules
}

// candidates finds the kernels among package names, the latest first.
func candidates(packages []string) []candidate {
	found := make(map[string]candidate)
	for _, p := range packages {
		m := imagePackage.FindStringSubmatch(p)
		if m == nil {
			continue
		}
		c := candidate{release: m[2] + "-amd64", split: m[1] == "binary"}
		for i, part := range m[3:6] {
			c.version[i], _ = strconv.Atoi(part) // digits
		}
		if _, abi, ok := strings.Cut(m[2], "-"); ok { // 6.1.0-50
			c.version[3], _ = strconv.Atoi(abi)
		}
		// Where there is a binary, the image package only names it.
		if had, ok := found[c.release]; !ok || !had.split {
			found[c.release] = c
		}
	}
	var all []candidate
	for _, c := range found {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int { return slices.Compare(b.version[:], a.version[:]) })
	return all
}

// choose returns the latest candidate of the first series that has any.
func choose(all []candidate, series ...string) (candidate, bool) {
	for _, want := range series {
		for _, c := range all {
			has := fmt.Sprintf("%d.%d", c.version[0], c.version[1])
			if want == Newest || want == has {
				return c, true
			}
		}
	}
	return candidate{}, false
}

// Kernel returns a kernel of the first of the series that the archive has, from
// the cache if it is there.
func (s *store) Kernel(ctx context.Context, series ...string) (*Kernel, error) {
	for _, want := range series {
		if want == Newest {
			continue // that may be another one by now
		}
		if k, err := s.kept(want); k != nil || err != nil {
			return k, err
		}
	}
	var errs []error
	for _, archive := range archives {
		k, err := s.fetchKernel(ctx, archive, series)
		if err == nil {
			return k, nil
		}
		errs = append(errs, err)
	}
	if k, err := s.kept(series[len(series)-1]); k != nil || err != nil {
		return k, err
	}
	return nil, errors.Join(errs...)
}

// kept returns the latest kernel of a series in the store, nil if there is none.
func (s *store) kept(series string) (*Kernel, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), keptPrefix); ok {
			names = append(names, "linux-image-"+rest)
		}
	}
	c, ok := choose(candidates(names), series)
	if !ok {
		return nil, nil
	}
	dir, ok, err := s.get(keptPrefix + c.release)
	if !ok || err != nil {
		return nil, err
	}
	return readKernel(dir, c.release)
}

func (s *store) fetchKernel(ctx context.Context, archive string, series []string) (*Kernel, error) {
	var release string
	dir, err := s.put(ctx, func(ctx context.Context, tmp, dir string) (string, error) {
		v, err := newAPT(ctx, filepath.Join(tmp, "apt"), archive)
		if err != nil {
			return "", err
		}
		names, err := v.packages(ctx)
		if err != nil {
			return "", err
		}
		c, ok := choose(candidates(names), series...)
		if !ok {
			return "", fmt.Errorf("vmtest: %s has no kernel %v", archive, series)
		}
		release = c.release
		if _, ok, err := s.get(keptPrefix + release); ok || err != nil {
			return keptPrefix + release, err
		}
		want := []string{"linux-image-" + release}
		if c.split {
			want = []string{"linux-binary-" + release}
			if slices.Contains(names, "linux-modules-"+release) {
				want = append(want, "linux-modules-"+release)
			} else {
				want = append(want, "linux-image-"+release)
			}
		}
		root := filepath.Join(tmp, "root")
		if err := v.unpack(ctx, root, want...); err != nil {
			return "", err
		}
		return keptPrefix + release, takeKernel(root, dir, release)
	})
	if err != nil {
		return nil, err
	}
	return readKernel(dir, release)
}

// takeKernel moves what is needed of a kernel from the tree of its packages into
// dir.
func takeKernel(root, dir, release string) error {
	move := func(name string, from ...string) error {
		var err error
		for _, f := range from {
			if err = os.Rename(f, filepath.Join(dir, name)); err == nil {
				break
			}
		}
		return err
	}
	trees := []string{filepath.Join(root, "usr/lib/modules", release), filepath.Join(root, "lib/modules", release)}
	err := move("vmlinuz", filepath.Join(root, "boot/vmlinuz-"+release), filepath.Join(trees[0], "vmlinuz"))
	if err != nil {
		return fmt.Errorf("vmtest: no image in the packages of Linux %s: %w", release, err)
	}
	taken := 0
	for i, m := range modules {
		for _, tree := range trees {
			for _, suffix := range []string{".ko.xz", ".ko"} {
				err := move(fmt.Sprintf("%02d-%s%s", i, filepath.Base(m), suffix), filepath.Join(tree, "kernel", m+suffix))
				if err == nil {
					taken++
				} else if !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	if taken == 0 {
		return fmt.Errorf("vmtest: no modules in the packages of Linux %s", release)
	}
	return nil
}

// readKernel describes a kernel in the store.
func readKernel(dir, release string) (*Kernel, error) {
	k := &Kernel{Release: release, Image: filepath.Join(dir, "vmlinuz")}
	var err error
	k.Modules, err = filepath.Glob(filepath.Join(dir, "*.ko*"))
	slices.SortFunc(k.Modules, cmp.Compare)
	return k, err
}
