package vmtest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTree reads the events of tests, some of them with a slash in the name.
func TestTree(t *testing.T) {
	root, err := tree([]byte(`{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Test":"TestA/x/1"}
{"Action":"output","Test":"TestA/x/1","Output":"    a_test.go:1: why\n"}
{"Action":"fail","Test":"TestA/x/1"}
{"Action":"fail","Test":"TestA","Elapsed":1.25}
{"Action":"run","Test":"TestB"}
{"Action":"output","Output":"panic: test timed out\n"}
{"Action":"fail"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   []string
		began  bool
		action string
		log    string
	}{
		{nil, false, "fail", "panic: test timed out"},
		{[]string{"TestA"}, true, "fail", ""},
		{[]string{"TestA", "x"}, false, "", ""},
		{[]string{"TestA", "x", "1"}, true, "fail", "    a_test.go:1: why"},
		{[]string{"TestB"}, true, "", ""},
	} {
		if r := root.at(c.path); r.began != c.began || r.action != c.action || r.messages() != c.log {
			t.Errorf("%v: began %v, %q, %q", c.path, r.began, r.action, r.messages())
		}
	}
	if took := root.at([]string{"TestA"}).took; took != 1250*time.Millisecond {
		t.Errorf("TestA took %v", took)
	}
	if len(root.sub) != 2 {
		t.Errorf("%d tests", len(root.sub))
	}
	if _, err := tree([]byte("no JSON\n")); err == nil {
		t.Error("no error for what is not JSON")
	}
}

// TestMuteWire tells a machine with a mute wire from one in which something is wrong.
func TestMuteWire(t *testing.T) {
	const multi = "/virtio-multi/queues=2"
	for _, c := range []struct {
		failed []string
		want   bool
	}{
		{nil, false},
		{[]string{"TestKill" + multi}, false},
		{[]string{"TestKill" + multi, "TestRaw" + multi + "/umem=own"}, true},
		{[]string{"TestKill" + multi, "TestSharedDevices/igb_and_virtio-multi"}, true},
		{[]string{"TestKill" + multi, "TestRaw" + multi, "TestRaw/igb/queues=2"}, false},
		{[]string{"TestKill", "TestRaw" + multi}, false},
	} {
		root := &result{}
		for _, path := range append(c.failed, "TestNode") {
			names := strings.Split(path, "/")
			for i := range names {
				r := root.at(names[:i+1])
				if r.began = true; path != "TestNode" {
					r.action = "fail"
				} else {
					r.action = "pass"
				}
			}
		}
		if got := root.failures(); !slices.Equal(got, c.failed) {
			t.Errorf("failures %q, want %q", got, c.failed)
		}
		if got := root.muteWire(); got != c.want {
			t.Errorf("%q: %v", c.failed, got)
		}
		if root.excuse(c.failed); root.failures() != nil || c.failed != nil && root.action != "pass" {
			t.Errorf("%q: not excused: %q, %q", c.failed, root.failures(), root.action)
		}
	}
}

// TestTrouble finds what a kernel complains about.
func TestTrouble(t *testing.T) {
	console := "[ 1.0] random: crng init done\n[ 2.0] WARNING: CPU: 0 PID: 1 at x.c:1\n[ 3.0] igb: fine\n"
	if got, want := trouble([]byte(console)), "[ 2.0] WARNING: CPU: 0 PID: 1 at x.c:1"; got != want {
		t.Errorf("got %q", got)
	}
}
