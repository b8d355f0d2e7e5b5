//go:build linux && (amd64 || arm64)

package xsk

import (
	"os"
	"path/filepath"
)

// kernelBTF is where the kernel tells its types, if it does.
const kernelBTF = "/sys/kernel/btf"

// rxMetadata tells what programs can ask the device about received packets, for
// ProgramConfig.Metadata.
func (c *checker) rxMetadata() {
	declared := declaredRXMetadata(c.features)
	if c.featuresErr != nil || declared == 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(kernelBTF, "vmlinux")); err != nil {
		c.add(SubjectMetadata, Note, "use a kernel built with CONFIG_DEBUG_INFO_BTF", "the driver declares metadata of received packets (%v), but the kernel does not tell its types, without which no program can ask for it", declared)
		return
	}
	clock := ""
	switch {
	case declared&RXTimestamp == 0:
	case isVirtual(c.dev.Driver):
		clock = "; the timestamp is one that a real device has taken, or none"
	default:
		clock = "; it takes timestamps once that is switched on: hwstamp_ctl -i " + c.dev.Name + " -r 1"
	}
	c.add(SubjectMetadata, OK, "", "a program in native mode can ask the device about received packets: %v%s", declared, clock)
}
