package deviceplugin_test

import (
	"fmt"
	"log"
	"time"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/deviceplugin"
)

// A pod that has eth1 from the plugin opens a socket on its queue 0. It needs
// CAP_NET_RAW.
func Example() {
	c, err := deviceplugin.Dial(deviceplugin.Config{Device: "eth1"})
	if err != nil {
		log.Fatal(err)
	}
	m, err := c.Map("eth1")
	if err != nil {
		log.Fatal(err)
	}
	s, err := xsk.Open(xsk.Config{Interface: "eth1"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := m.AddSocket(0, s); err != nil {
		log.Fatal(err)
	}
	if err := c.Close(); err != nil { // the map and the socket stay
		log.Fatal(err)
	}
	fmt.Println("all that arrives on queue 0 comes to the socket")
}

// Busy polling takes CAP_NET_ADMIN, which the plugin has and the pod does not.
func ExampleClient_BusyPoll() {
	c, err := deviceplugin.Dial(deviceplugin.Config{Device: "eth1"})
	if err != nil {
		log.Fatal(err)
	}
	cfg := xsk.Config{Interface: "eth1", BusyPoll: xsk.BusyPoll{Time: 20 * time.Microsecond, Prefer: true}}
	memory, err := cfg.Memory()
	if err != nil {
		log.Fatal(err)
	}
	if cfg.Region, err = umem.New(memory); err != nil {
		log.Fatal(err)
	}
	defer cfg.Region.Close()
	if cfg.Prepared, err = xsk.Prepare(cfg.Interface, cfg.Region, xsk.BusyPoll{}); err != nil {
		log.Fatal(err)
	}
	if err := c.BusyPoll(cfg.Prepared.FD, cfg.BusyPoll); err != nil {
		log.Fatal(err)
	}
	cfg.Prepared.BusyPoll = true // Open need not do it
	s, err := xsk.Open(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println(s.BusyPoll().NAPI)
}
