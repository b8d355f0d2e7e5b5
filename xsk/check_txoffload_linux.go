//go:build linux && (amd64 || arm64)

package xsk

// txOffload tells what Config.TXOffload may have in either mode.
func (c *checker) txOffload() {
	if c.featuresErr != nil || !c.features.TXMetadata {
		c.add(SubjectMetadata, Note, "use Linux 6.8 or later", "sent packets cannot ask for anything (Config.TXOffload): the kernel has no TX metadata")
		return
	}
	list := func(o TXOffload) string {
		if o == 0 {
			return "nothing"
		}
		return o.String()
	}
	copied := honoured(c.dev.Driver, c.features, c.Kernel, false)
	if !c.features.ZeroCopy {
		c.add(SubjectMetadata, OK, "", "sent packets can ask for %s (Config.TXOffload): the kernel does it", list(copied))
		return
	}
	c.add(SubjectMetadata, OK, "", "sent packets can ask for %s in copy mode (Config.TXOffload): the kernel does it; and for %s in zero-copy mode: the driver declares it",
		list(copied), list(honoured(c.dev.Driver, c.features, c.Kernel, true)))
}
