package stack

// stackRoom is how much stack, in bytes, a Read or a Write may need that goes
// through netstack and down to the device, where it may process what has come
// for others. Measured: with 5 KiB the stacks of new goroutines still grow
// below it.
const stackRoom = 11 << 10

// makeRoom makes the stack of the calling goroutine grow to what the calls below
// will need, at once. A goroutine starts with 2 KiB; each time it runs out, the
// runtime moves its stack, frame by frame, to one of twice the size. Deep down
// in netstack that costs some microseconds, twice for each new connection whose
// goroutine is new too. Up here there are few frames, and it happens once. Where
// there is room already, makeRoom does nothing.
//
// That it has room for the array is all that matters about it: use is false.
//
//go:noinline
func makeRoom(use bool) byte {
	if !use {
		return 0
	}
	var room [stackRoom]byte
	return last(&room)
}

//go:noinline
func last(b *[stackRoom]byte) byte { return b[len(b)-1] }
