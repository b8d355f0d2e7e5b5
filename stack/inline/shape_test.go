package inline

import (
	"reflect"
	"testing"
)

type (
	inner struct {
		_    int64
		Deep int32
	}
	outer struct {
		a byte
		inner
		own []*inner
	}
	behind struct {
		a byte
		*inner
	}
)

func TestFieldOffset(t *testing.T) {
	if shapeErr != nil {
		t.Error(shapeErr) // of the tested version of gVisor
	}
	var o outer
	_, _, _ = o.a, o.own, behind{}.a
	for _, c := range []struct {
		of         reflect.Type
		name, want string
		offset     uintptr
		ok         bool
	}{
		{reflect.TypeFor[outer](), "own", "[]*inline.inner", reflect.TypeFor[outer]().Field(2).Offset, true},
		{reflect.TypeFor[outer](), "Deep", "int32", 16, true},
		{reflect.TypeFor[outer](), "Deep", "int64", 0, false},
		{reflect.TypeFor[outer](), "none", "int64", 0, false},
		{reflect.TypeFor[behind](), "Deep", "int32", 0, false},
	} {
		offset, of, err := fieldOffset(c.of, c.name, c.want)
		if (err == nil) != c.ok || offset != c.offset || c.ok && of.String() != c.want {
			t.Errorf("%v.%s of type %s: %d, %v, %v", c.of, c.name, c.want, offset, of, err)
		}
	}
}
