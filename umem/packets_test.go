package umem

import (
	"slices"
	"testing"
)

func TestPackets(t *testing.T) {
	const more = OptionContinues
	for _, test := range []struct {
		name    string
		options []uint32
		want    []int // descriptors of each packet
	}{
		{"none", nil, nil},
		{"single ones", []uint32{0, 0, 0}, []int{1, 1, 1}},
		{"one of three", []uint32{more, more, 0}, []int{3}},
		{"mixed", []uint32{0, more, 0, 0, more, more, 0}, []int{1, 2, 1, 3}},
		{"other options", []uint32{2, more | 2, 4}, []int{1, 2}},
		{"without an end", []uint32{0, more, more}, []int{1, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var descs, seen []Desc
			for i, o := range test.options {
				descs = append(descs, Desc{Addr: Addr(i), Len: 1, Options: o})
			}
			var got []int
			for p := range Packets(descs) {
				got = append(got, len(p))
				seen = append(seen, p...)
				if cap(p) != len(p) {
					t.Errorf("a packet of %d has room for %d", len(p), cap(p))
				}
			}
			if !slices.Equal(got, test.want) || !slices.Equal(seen, descs) {
				t.Errorf("got %v, %v, want %v, %v", got, seen, test.want, descs)
			}
		})
	}
}

func TestPacketsStopsAndDoesNotAllocate(t *testing.T) {
	descs := make([]Desc, 64)
	for i := range descs {
		if i%3 != 2 {
			descs[i].Options = OptionContinues
		}
	}
	first, all := 0, 0
	if n := testing.AllocsPerRun(100, func() {
		first, all = 0, 0
		for p := range Packets(descs) {
			first += len(p)
			break
		}
		for p := range Packets(descs) {
			all += len(p)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if first != 3 || all != 64 {
		t.Errorf("%d descriptors, then %d", first, all)
	}
}
