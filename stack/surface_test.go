package stack

import (
	"net"
	"reflect"
	"slices"
	"testing"
)

const noDescriptor = "there is no file descriptor"

// missing are the methods of package net's types that ours do not have, and why.
var missing = map[string]string{
	"TCPConn.File":            noDescriptor,
	"TCPConn.SyscallConn":     noDescriptor,
	"TCPListener.File":        noDescriptor,
	"TCPListener.SyscallConn": noDescriptor,
	"UDPConn.File":            noDescriptor,
	"UDPConn.SyscallConn":     noDescriptor + ", and a library that finds this method takes the other ones for the kernel's",
}

// different are methods with another signature.
var different = map[string]string{
	"TCPListener.AcceptTCP": "returns our *TCPConn",
}

// TestMethods compares the methods of our types with those of their namesakes.
func TestMethods(t *testing.T) {
	unused := make(map[string]bool)
	for name := range missing {
		unused[name] = true
	}
	for name := range different {
		unused[name] = true
	}
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[*net.TCPConn](), reflect.TypeFor[*TCPConn]()},
		{reflect.TypeFor[*net.TCPListener](), reflect.TypeFor[*TCPListener]()},
		{reflect.TypeFor[*net.UDPConn](), reflect.TypeFor[*UDPConn]()},
	} {
		theirs, ours := pair[0], pair[1]
		for i := range theirs.NumMethod() {
			want := theirs.Method(i)
			name := theirs.Elem().Name() + "." + want.Name
			got, ok := ours.MethodByName(want.Name)
			switch {
			case !ok && missing[name] == "":
				t.Errorf("%s is not there, and no reason is given", name)
			case ok && missing[name] != "":
				t.Errorf("%s is there, and a reason is given why not", name)
			case ok && !sameFunc(want.Type, got.Type) && different[name] == "":
				t.Errorf("%s is %v, want %v", name, got.Type, want.Type)
			}
			delete(unused, name)
		}
	}
	for name := range unused {
		t.Errorf("%s is no method of package net's", name)
	}
}

// sameFunc compares functions but for their receivers.
func sameFunc(a, b reflect.Type) bool {
	if a.NumIn() != b.NumIn() || a.NumOut() != b.NumOut() {
		return false
	}
	for i := 1; i < a.NumIn(); i++ {
		if a.In(i) != b.In(i) {
			return false
		}
	}
	for i := range a.NumOut() {
		if a.Out(i) != b.Out(i) {
			return false
		}
	}
	return true
}

// TestProbes checks that libraries which look for methods find those that they
// should, and not those that would mislead them.
func TestProbes(t *testing.T) {
	for _, v := range []any{(*TCPConn)(nil), (*TCPListener)(nil), (*UDPConn)(nil)} {
		typ := reflect.TypeOf(v)
		for _, name := range []string{"SyscallConn", "File"} {
			if _, ok := typ.MethodByName(name); ok {
				t.Errorf("%v has %s", typ, name)
			}
		}
	}
	var names []string
	udp := reflect.TypeFor[*UDPConn]()
	for i := range udp.NumMethod() {
		names = append(names, udp.Method(i).Name)
	}
	for _, name := range []string{"SetReadBuffer", "SetWriteBuffer", "ReadMsgUDP", "WriteMsgUDP", "ReadBatch", "WriteBatch"} {
		if !slices.Contains(names, name) {
			t.Errorf("UDPConn has no %s", name)
		}
	}
}
