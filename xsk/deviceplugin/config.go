package deviceplugin

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Version is the protocol's, as [Client.Version] should return it.
const Version = "0.1"

// Config says where the plugin is and who asks. Device, or Path, is required.
type Config struct {
	// Device is the network device that the pod has from the plugin, by whose name
	// the plugin's Unix socket is found: /tmp/afxdp_dp/DEVICE/afxdp.sock.
	Device string

	// Path is that of the Unix socket, if it is elsewhere.
	Path string

	// Pod is the pod's name, which the plugin looks up. Empty means the host name,
	// which is the same unless the pod has another one set. At most 54 bytes, for
	// a message of the protocol has 64.
	Pod string

	// Timeout bounds the wait for each answer. Zero means 10 s.
	Timeout time.Duration
}

const (
	defaultTimeout = 10 * time.Second
	maxMessage     = 64 // bytes that the plugin reads
	socketDir      = "/tmp/afxdp_dp"

	// connectRequest goes before the pod's name, which gets the rest of the message.
	connectRequest = "/connect, "
	maxPod         = maxMessage - len(connectRequest)
)

func (c Config) withDefaults(hostname func() (string, error)) (Config, error) {
	if c.Path == "" {
		if c.Device == "" || strings.Contains(c.Device, "/") {
			return c, fmt.Errorf("deviceplugin: Config.Device: %q: the name of a network device, or Path, is needed", c.Device)
		}
		c.Path = path.Join(socketDir, c.Device, "afxdp.sock")
	}
	if c.Pod == "" {
		name, err := hostname()
		if err != nil {
			return c, fmt.Errorf("deviceplugin: Config.Pod: the host name: %w", err)
		}
		c.Pod = name
	}
	if strings.ContainsAny(c.Pod, ", ") {
		return c, fmt.Errorf("deviceplugin: Config.Pod: %q: the name of a pod", c.Pod)
	}
	if len(c.Pod) > maxPod { // to be told before the one connection is made
		return c, fmt.Errorf("deviceplugin: Config.Pod: %q: %d bytes: at most %d", c.Pod, len(c.Pod), maxPod)
	}
	if c.Timeout < 0 {
		return c, errors.New("deviceplugin: Config.Timeout: negative")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c, nil
}
