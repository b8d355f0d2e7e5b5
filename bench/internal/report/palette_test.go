package report

import (
	"image/color"
	"math"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/inmemory"
	"github.com/afxnet/afxnet/bench/internal/peers"
)

// TestStyleOfPeers wants those that run together to have colours of their own: bars
// have no dashes.
func TestStyleOfPeers(t *testing.T) {
	for _, names := range [][]string{peers.Usual(), peers.Ablation(), inmemory.Kinds} {
		seen := make(map[color.RGBA]string)
		for _, name := range names {
			c, _ := styleOf(name)
			if other, dup := seen[c]; dup {
				t.Errorf("%s has the colour of %s, %v", name, other, c)
			}
			seen[c] = name
		}
	}
}

// sights are how colours look, for linear RGB: to those who lack one kind of cones by
// Machado, Oliveira and Fernandes (2009, severity 1).
var sights = map[string][3][3]float64{
	"all":  {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"no L": {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"no M": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"no S": {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

// toXYZ is the matrix of sRGB (IEC 61966-2-1).
var toXYZ = [3][3]float64{{0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}}

func times(m [3][3]float64, v [3]float64) (out [3]float64) {
	for i, row := range m {
		for k, x := range row {
			out[i] += x * v[k]
		}
	}
	return out
}

// cielab places a colour where distances are differences that are seen.
func cielab(c color.RGBA, sight [3][3]float64) [3]float64 {
	var rgb [3]float64
	for i, v := range [3]uint8{c.R, c.G, c.B} {
		x := float64(v) / 255
		if x > 0.04045 {
			rgb[i] = math.Pow((x+0.055)/1.055, 2.4)
		} else {
			rgb[i] = x / 12.92
		}
	}
	rgb = times(sight, rgb)
	for i, x := range rgb {
		rgb[i] = min(max(x, 0), 1)
	}
	f := times(toXYZ, rgb)
	for i, white := range [3]float64{0.9505, 1, 1.089} {
		x := f[i] / white
		if x > 216.0/24389 {
			f[i] = math.Cbrt(x)
		} else {
			f[i] = (24389.0/27*x + 16) / 116
		}
	}
	return [3]float64{116*f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])}
}

// TestPalette wants any two colours to differ for everybody: 2 is just seen.
func TestPalette(t *testing.T) {
	const least = 15
	for name, sight := range sights {
		for i, a := range palette {
			for k, b := range palette[:i] {
				x, y := cielab(a, sight), cielab(b, sight)
				if d := math.Sqrt(math.Pow(x[0]-y[0], 2) + math.Pow(x[1]-y[1], 2) + math.Pow(x[2]-y[2], 2)); d < least {
					t.Errorf("cones: %s: colours %d and %d differ by %.1f", name, k, i, d)
				}
			}
		}
	}
}
