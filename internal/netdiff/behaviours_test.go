package netdiff

import "slices"

// behaviours are all there are.
var behaviours = slices.Concat(
	addressBehaviours(),
	dialBehaviours(),
	dialerBehaviours(),
	nameBehaviours(),
	selfBehaviours(),
	listenBehaviours(),
	streamBehaviours(),
	copyBehaviours(),
	packetBehaviours(),
	messageBehaviours(),
	groupBehaviours(),
	multicastBehaviours(),
	zoneBehaviours(),
	attemptBehaviours(),
	icmpBehaviours(),
	quotedBehaviours(),
	toldTCPBehaviours(),
	deadBehaviours(),
	queueBehaviours(),
	endBehaviours(),
	stageBehaviours(),
	pingBehaviours(),
	deadlineBehaviours(),
	optionBehaviours(),
	inEveryState("TCP", tcpStates, tcpMethods),
	inEveryState("listener", listenerStates, listenerMethods),
	inEveryState("UDP", udpStates, udpMethods),
)
