package stack

import (
	"net"
	"reflect"
	"slices"
	"testing"
)

const noDescriptor = "there is no file descriptor"

// missing are the methods and fields of package net's types that ours do not have,
// and why.
var missing = map[string]string{
	"TCPConn.File":            noDescriptor,
	"TCPConn.SyscallConn":     noDescriptor,
	"TCPListener.File":        noDescriptor,
	"TCPListener.SyscallConn": noDescriptor,
	"UDPConn.File":            noDescriptor,
	"UDPConn.SyscallConn":     noDescriptor + ", and a library that finds this method takes the other ones for the kernel's",
	"IPConn.File":             noDescriptor,
	"IPConn.SyscallConn":      noDescriptor,
	"Dialer.DialUnix":         "a Stack has no Unix sockets",
}

// different are methods with another signature.
var different = map[string]string{
	"TCPListener.AcceptTCP": "returns our *TCPConn",
	"Dialer.DialTCP":        "returns our *TCPConn",
	"Dialer.DialUDP":        "returns our *UDPConn",
	"Dialer.DialIP":         "returns our *ICMPConn",
}

// TestMethods compares the methods and fields of our types with those of their
// namesakes. (A Stack's Resolver is a *net.Resolver itself.)
func TestMethods(t *testing.T) {
	unused := make(map[string]bool)
	for name := range missing {
		unused[name] = true
	}
	for name := range different {
		unused[name] = true
	}
	is := func(name string, there, same bool, got, want any) {
		switch {
		case !there && missing[name] == "":
			t.Errorf("%s is not there, and no reason is given", name)
		case there && missing[name] != "":
			t.Errorf("%s is there, and a reason is given why not", name)
		case there && same != (different[name] == ""):
			t.Errorf("%s is %v, want %v", name, got, want)
		}
		delete(unused, name)
	}
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[*net.TCPConn](), reflect.TypeFor[*TCPConn]()},
		{reflect.TypeFor[*net.TCPListener](), reflect.TypeFor[*TCPListener]()},
		{reflect.TypeFor[*net.UDPConn](), reflect.TypeFor[*UDPConn]()},
		{reflect.TypeFor[*net.IPConn](), reflect.TypeFor[*ICMPConn]()},
		{reflect.TypeFor[*net.Dialer](), reflect.TypeFor[*Dialer]()},
		{reflect.TypeFor[*net.ListenConfig](), reflect.TypeFor[*ListenConfig]()},
	} {
		theirs, ours := pair[0], pair[1]
		for i := range theirs.NumMethod() {
			want := theirs.Method(i)
			got, ok := ours.MethodByName(want.Name)
			is(theirs.Elem().Name()+"."+want.Name, ok, ok && sameFunc(want.Type, got.Type), got.Type, want.Type)
		}
		for _, want := range reflect.VisibleFields(theirs.Elem()) {
			if want.IsExported() {
				got, ok := ours.Elem().FieldByName(want.Name)
				is(theirs.Elem().Name()+"."+want.Name, ok, ok && want.Type == got.Type, got.Type, want.Type)
			}
		}
	}
	for name := range unused {
		t.Errorf("%s is no method or field of package net's", name)
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
	for _, v := range []any{(*TCPConn)(nil), (*TCPListener)(nil), (*UDPConn)(nil), (*ICMPConn)(nil)} {
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
