package netdiff

import "net"

// groupBehaviours are about who is in which multicast group. What is sent to one is
// for multicastBehaviours: on loopback the kernel has no route for it.
func groupBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "group/" + name, run: run})
	}
	add("join, leave, and leave again", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
		e.saw("%s", e.cause(c.LeaveGroup(e.group())))
		e.saw("%s", e.cause(c.LeaveGroup(e.group())))
	})
	add("join twice", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
	})
	add("join again after leaving", func(e *env) {
		c := e.nearPacket()
		e.must(c.JoinGroup(e.group()))
		e.must(c.LeaveGroup(e.group()))
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
	})
	add("two sockets in one group", func(e *env) {
		c, d := e.nearPacket(), e.nearPacket()
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
		e.saw("%s", e.cause(d.JoinGroup(e.group())))
		e.must(c.Close())
		e.saw("%s", e.cause(d.LeaveGroup(e.group())))
	})
	add("a connected socket joins", func(e *env) {
		c, _ := e.connectedUDP()
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
	})
	add("join an address of one host", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.cause(c.JoinGroup(e.farUDP(0))))
	})
	add("join by an IPAddr", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.cause(c.JoinGroup(&net.IPAddr{IP: e.group().IP})))
		e.saw("%s", e.cause(c.LeaveGroup(e.group())))
	})
	add("join and leave, closed", func(e *env) {
		c := e.nearPacket()
		e.must(c.JoinGroup(e.group()))
		e.must(c.Close())
		e.saw("%s", e.cause(c.JoinGroup(e.group())))
		e.saw("%s", e.cause(c.LeaveGroup(e.group())))
	})
	return all
}
