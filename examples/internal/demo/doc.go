// Package demo is what the examples of libraries have in common: flags, a stack
// on a real interface, and a private network (-lab) in which the same example
// runs in both roles, with the kernel's sockets on the other side.
//
// An example is two functions over a Host, which is three functions of package
// net: one that serves, and one that uses the service and checks every byte that
// comes back. A *stack.Stack is a Host, so all that an example changes in its
// library is where the sockets come from.
package demo
