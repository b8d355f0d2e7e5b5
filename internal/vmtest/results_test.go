package vmtest

import (
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

// TestTrouble finds what a kernel complains about.
func TestTrouble(t *testing.T) {
	console := "[ 1.0] random: crng init done\n[ 2.0] WARNING: CPU: 0 PID: 1 at x.c:1\n[ 3.0] igb: fine\n"
	if got, want := trouble([]byte(console)), "[ 2.0] WARNING: CPU: 0 PID: 1 at x.c:1"; got != want {
		t.Errorf("got %q", got)
	}
}
