package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// palette is Okabe and Ito's, with a grey for yellow and four more at the end, all told
// apart also by the colour blind. A peer has the same one in all plots. When they are
// used up they come again but for black, which is the kernel's, and lines have dashes.
var palette = []color.RGBA{
	{0, 0, 0, 255}, {200, 200, 200, 255}, {230, 159, 0, 255}, {204, 121, 167, 255},
	{0, 158, 115, 255}, {0, 114, 178, 255}, {86, 180, 233, 255}, {213, 94, 0, 255},
	{102, 0, 204, 255}, {102, 51, 0, 255}, {0, 51, 102, 255}, {153, 204, 102, 255},
}

var dashes = [][]vg.Length{{vg.Points(4), vg.Points(2)}, {vg.Points(1), vg.Points(2)}}

// borrowed has whose colour contestants have that are no peers, and one that would have
// afxnet's: a peer's that does not take part where they do.
var borrowed = map[string]string{
	"xsk": peers.Raw, "c": "gvisor-xdp",
	"gvisor": peers.Floor, "gvisor-gro": peers.Raw, "gvisor-copy": "gvisor-packet",
	"no-gather": "inline-spin",
}

func styleOf(name string) (color.RGBA, []vg.Length) {
	if peer, ok := borrowed[name]; ok {
		name = peer
	}
	i := max(slices.Index(peers.Names(), name), 0)
	if i < len(palette) {
		return palette[i], nil
	}
	i -= len(palette)
	again := palette[1:]
	return again[i%len(again)], dashes[min(i/len(again), len(dashes)-1)]
}

// The size of a plot. The page scales it.
const (
	plotWidth  = 12 * vg.Centimeter
	plotHeight = 8 * vg.Centimeter
)

// svg draws a plot as an SVG element.
func svg(p *plot.Plot) (template.HTML, error) {
	c := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("report: draw: %w", err)
	}
	// The element alone: no XML declaration, no document type.
	text := b.String()
	if at := strings.Index(text, "<svg"); at > 0 {
		text = text[at:]
	}
	// The fonts of the plots may not be there; any of the kind will do.
	text = strings.NewReplacer("Liberation Serif", "sans-serif", "Liberation Sans", "sans-serif").Replace(text)
	return template.HTML(text), nil // made here, of numbers and of names from our own lists
}

func newPlot(title, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = vg.Points(11)
	p.Y.Label.Text = y
	p.BackgroundColor = color.White
	return p
}

// nines places a quantile: 0.9 at 1, 0.99 at 2, and so on.
func nines(q float64) float64 { return -math.Log10(1 - q) }

// percentileTicks are the marks of the latency plots' lower axis.
type percentileTicks struct{}

func (percentileTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	for _, t := range []struct {
		q     float64
		label string
	}{{0, "0"}, {0.5, "50%"}, {0.9, "90%"}, {0.99, "99%"}, {0.999, "99.9%"}, {0.9999, "99.99%"}, {0.99999, "99.999%"}} {
		if at := nines(t.q); at >= low && at <= high+1e-9 {
			ticks = append(ticks, plot.Tick{Value: at, Label: t.label})
		}
	}
	return ticks
}

// latencyPlot draws a line for each peer's latencies.
func latencyPlot(rows []summary.Row) (template.HTML, error) {
	p := newPlot("latency by percentile", "us")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Tick.Marker = percentileTicks{}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Add(plotter.NewGrid())
	for _, r := range rows {
		if r.Merged == nil {
			continue
		}
		line, err := plotter.NewLine(curve(r.Merged))
		if err != nil {
			return "", fmt.Errorf("report: latencies of %s: %w", r.Peer, err)
		}
		line.Color, line.Dashes = styleOf(r.Peer)
		line.Width = vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(r.Peer, line)
	}
	return svg(p)
}

// curve is a histogram by percentile, as far as it has samples for: ten beyond
// the last point.
func curve(h *hdr.Histogram) plotter.XYs {
	last := nines(1 - min(10/float64(h.TotalCount()), 0.5))
	var points plotter.XYs
	for x := 0.0; x <= last; x += 0.05 {
		q := 1 - math.Pow(10, -x)
		points = append(points, plotter.XY{X: x, Y: float64(max(h.ValueAtQuantile(q*100), 1)) / 1e3})
	}
	return points
}

// barPlot draws a bar for each peer that has the metric, with its 95% interval.
func barPlot(rows []summary.Row, title, metric string) (template.HTML, error) {
	p := newPlot(title, summary.Unit(metric))
	p.Y.Min = 0
	p.X.Tick.Label.Rotation = 0.5
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YCenter
	p.X.Tick.Label.Font.Size = vg.Points(8)
	var names []string
	var errs intervals
	for _, r := range rows {
		f, ok := r.Figure(metric)
		if !ok {
			continue
		}
		b, err := plotter.NewBarChart(plotter.Values{f.Value}, vg.Points(18))
		if err != nil {
			return "", fmt.Errorf("report: %s of %s: %w", metric, r.Peer, err)
		}
		b.XMin, b.LineStyle.Width = float64(len(names)), 0
		b.Color, _ = styleOf(r.Peer)
		p.Add(b)
		errs.add(float64(len(names)), f)
		names = append(names, r.Peer)
	}
	if len(names) == 0 {
		return "", nil
	}
	bars, err := plotter.NewYErrorBars(errs)
	if err != nil {
		return "", fmt.Errorf("report: intervals of %s: %w", metric, err)
	}
	bars.LineStyle.Color = color.RGBA{90, 90, 90, 255}
	p.Add(bars)
	p.NominalX(names...)
	return svg(p)
}

// intervals are the figures' values with the distance to their intervals' ends.
type intervals struct {
	plotter.XYs
	plotter.YErrors
}

func (i *intervals) add(x float64, f summary.Figure) {
	i.XYs = append(i.XYs, plotter.XY{X: x, Y: f.Value})
	i.YErrors = append(i.YErrors, struct{ Low, High float64 }{f.Value - f.Low, f.High - f.Value})
}
