package netdiff

import "slices"

// behaviours are all there are.
var behaviours = slices.Concat(
	addressBehaviours(),
	dialBehaviours(),
	listenBehaviours(),
	streamBehaviours(),
	packetBehaviours(),
	deadlineBehaviours(),
	optionBehaviours(),
	inEveryState("TCP", tcpStates, tcpMethods),
	inEveryState("listener", listenerStates, listenerMethods),
	inEveryState("UDP", udpStates, udpMethods),
)
