package vmtest

import (
	"slices"
	"testing"
)

// TestCandidates finds the kernels in what an archive has.
func TestCandidates(t *testing.T) {
	all := candidates([]string{
		"bash",
		"linux-image-amd64",
		"linux-image-6.1.0-47-amd64", "linux-image-6.1.0-50-amd64", "linux-image-6.1.0-50-rt-amd64",
		"linux-image-6.12.107+deb13-amd64", "linux-image-6.12.94+deb13-amd64", "linux-image-6.12.107+deb13-cloud-amd64",
		"linux-image-6.12.107+deb13-amd64-dbg", "linux-image-6.12.107+deb13-amd64-unsigned",
		"linux-image-6.19.10+deb13-amd64", "linux-binary-6.19.10+deb13-amd64",
		"linux-binary-7.3.4+deb13-amd64", "linux-image-7.3.4+deb13-amd64", "linux-modules-7.3.4+deb13-amd64",
		"linux-headers-7.4.0+deb13-amd64",
	})
	var releases []string
	for _, c := range all {
		releases = append(releases, c.release)
		if late := c.version[0] >= 7 || c.version[1] >= 19; c.split != late {
			t.Errorf("%s: split %v", c.release, c.split)
		}
	}
	slices.Sort(releases)
	want := []string{
		"6.1.0-47-amd64", "6.1.0-50-amd64", "6.12.107+deb13-amd64", "6.12.94+deb13-amd64",
		"6.19.10+deb13-amd64", "7.3.4+deb13-amd64",
	}
	if !slices.Equal(releases, want) {
		t.Errorf("got %v, want %v", releases, want)
	}
	for _, c := range []struct {
		series []string
		want   string
	}{
		{[]string{"6.1"}, "6.1.0-50-amd64"},
		{[]string{"6.12"}, "6.12.107+deb13-amd64"},
		{[]string{"6.2", "6.12"}, "6.12.107+deb13-amd64"},
		{[]string{"6.18", Newest}, "7.3.4+deb13-amd64"},
		{[]string{"6.18"}, ""},
	} {
		if got, ok := choose(all, c.series...); got.release != c.want || ok != (c.want != "") {
			t.Errorf("%v: got %q, want %q", c.series, got.release, c.want)
		}
	}
}
