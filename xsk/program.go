package xsk

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// AttachMode is where in the receive path the program runs.
type AttachMode uint8

const (
	// AttachAuto asks for native mode, and for generic mode if the driver
	// answers that it does not support native mode. Any other refusal (the MTU
	// is too large, there are too few queues) is an error. Program.Mode tells
	// what became of it and Program.NativeErr why.
	AttachAuto AttachMode = iota
	// AttachNative runs in the driver, before the kernel allocates a socket
	// buffer.
	AttachNative
	// AttachGeneric runs in the network core, on every kind of interface. It
	// is slow: the socket buffer is already there and may be copied.
	AttachGeneric
	// AttachOffload runs on the device itself (XDP_FLAGS_HW_MODE), for which it
	// is loaded. No driver of Linux 6.18 has that for a program that redirects
	// to sockets: LoadProgram answers errors.ErrUnsupported.
	AttachOffload
	// AttachJoin uses the steering program that somebody else has loaded and
	// attached, beside other programs in libxdp's dispatcher or alone: see
	// [ProgramObject]. Queues and MaxAddresses are as they were made; addresses
	// and sockets that are in its maps are taken out of them, and so are this
	// Program's by Close. One process at a time can use it: LoadProgram answers
	// unix.EBUSY to a second one, and os.ErrNotExist if there is none.
	AttachJoin
)

func (m AttachMode) String() string {
	switch m {
	case AttachAuto:
		return "auto"
	case AttachNative:
		return "native"
	case AttachGeneric:
		return "generic"
	case AttachOffload:
		return "offload"
	case AttachJoin:
		return "join"
	}
	return fmt.Sprintf("AttachMode(%d)", uint8(m))
}

// ProgramConfig describes a steering program. Only Interface is required.
type ProgramConfig struct {
	// Interface is the name of an Ethernet interface in the network namespace
	// of the calling thread.
	Interface string

	// MAC is the address that unicast frames must be sent to, 6 bytes. Nil
	// means the interface's own at the time of LoadProgram; Program.SetMAC
	// follows a change.
	MAC net.HardwareAddr

	// Queues is the number of receive queues to have room for: sockets can be
	// added for queue ids below it. Zero means 256; at most 65536.
	Queues int

	// MaxAddresses bounds the number of addresses and groups, for IPv4 and IPv6 each.
	// Zero means 1024; at most 1048576.
	MaxAddresses int

	// Mode is where the program runs. Zero means AttachAuto.
	Mode AttachMode

	// Metadata is what the program asks the device about each packet, for
	// RX.Metadata. The device must declare all of it (Check tells), and Mode be
	// AttachNative, which zero then means. The sockets need the program's marker:
	// Program.MetadataMarker. With RXVLANTag the interface's rx-vlan-offload can
	// stay on, for the packets of a VLAN can be told from others. Zero is nothing.
	Metadata RXMetadataSet
}

const (
	defaultProgramQueues    = 256 // 2 KiB of map
	maxProgramQueues        = 1 << 16
	defaultProgramAddresses = 1024 // some 64 KiB of map, allocated ahead
	maxProgramAddresses     = 1 << 20
)

// withDefaults checks every field and resolves zero values, but for MAC.
func (cfg ProgramConfig) withDefaults() (ProgramConfig, error) {
	if cfg.Interface == "" {
		return cfg, errors.New("ProgramConfig.Interface is empty")
	}
	if cfg.MAC != nil {
		if err := checkMAC(cfg.MAC); err != nil {
			return cfg, fmt.Errorf("ProgramConfig.MAC: %w", err)
		}
	}
	if cfg.Queues < 0 || cfg.Queues > maxProgramQueues {
		return cfg, fmt.Errorf("ProgramConfig.Queues is %d, must be 0 to %d", cfg.Queues, maxProgramQueues)
	}
	if cfg.Queues == 0 {
		cfg.Queues = defaultProgramQueues
	}
	if cfg.MaxAddresses < 0 || cfg.MaxAddresses > maxProgramAddresses {
		return cfg, fmt.Errorf("ProgramConfig.MaxAddresses is %d, must be 0 to %d", cfg.MaxAddresses, maxProgramAddresses)
	}
	if cfg.MaxAddresses == 0 {
		cfg.MaxAddresses = defaultProgramAddresses
	}
	if cfg.Mode > AttachJoin {
		return cfg, fmt.Errorf("ProgramConfig.Mode is %v: no such mode", cfg.Mode)
	}
	if err := cfg.Metadata.check(cfg.Mode); err != nil {
		return cfg, err
	}
	if cfg.Metadata != 0 {
		cfg.Mode = AttachNative
	}
	return cfg, nil
}

// checkMAC refuses what can not be the address of an Ethernet station.
func checkMAC(mac net.HardwareAddr) error {
	if len(mac) != 6 {
		return fmt.Errorf("%q has %d bytes, must have 6", mac, len(mac))
	}
	if mac[0]&1 != 0 {
		return fmt.Errorf("%v is a group address", mac)
	}
	return nil
}

// wireMAC is how the program holds a MAC address: first byte lowest.
func wireMAC(mac net.HardwareAddr) uint64 {
	var w uint64
	for i, b := range mac {
		w |= uint64(b) << (8 * i)
	}
	return w
}

// ownGroup is ownAddress for a multicast group.
func ownGroup(group netip.Addr) (netip.Addr, error) {
	group = group.Unmap()
	switch {
	case !group.IsMulticast():
		return group, fmt.Errorf("%v is not a multicast address", group)
	case group.Zone() != "":
		return group, fmt.Errorf("%v is an address with a zone; the program is on one interface", group)
	}
	return group, nil
}

// ownAddress returns addr in the form the program compares, IPv4 unmapped, or
// says why it can not be an address of a stack.
func ownAddress(addr netip.Addr) (netip.Addr, error) {
	addr = addr.Unmap()
	var what string
	switch {
	case !addr.IsValid():
		what = "not an address"
	case addr.IsUnspecified():
		what = "the unspecified address"
	case addr.IsLoopback():
		what = "a loopback address"
	case addr.IsMulticast():
		what = "a multicast address"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "the broadcast address"
	case addr.Zone() != "":
		what = "an address with a zone; the program is on one interface"
	default:
		return addr, nil
	}
	return addr, fmt.Errorf("%v is %s", addr, what)
}
