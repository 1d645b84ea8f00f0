package main

import (
	"bytes"
	"fmt"
	"slices"
)

const (
	width     = 900
	top       = 70 // of the first rung
	pitch     = 84 // from one rung to the next
	boxHeight = 40
	step      = 9 // between two lines
)

// style has colours for a light and a dark page.
const style = `<style>
text{font:14px system-ui,sans-serif;fill:#1f2328;text-anchor:middle}
.box{fill:#f6f8fa;stroke:#59636e;stroke-width:1.2}.top{fill:#ddf4ff}
.line{fill:none;stroke:#9198a1;stroke-width:1.2}.head{fill:#9198a1}
.way{fill:none;stroke-width:2.6}.legend{text-anchor:start}
.c0{stroke:#0969da}.c1{stroke:#cf222e}.c2{stroke:#1a7f37}.c3{stroke:#8250df}
.d0{fill:#0969da}.d1{fill:#cf222e}.d2{fill:#1a7f37}.d3{fill:#8250df}
.page{fill:#fff}.small{font-size:11.5px;opacity:.75}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.box{fill:#161b22;stroke:#8d96a0}.top{fill:#0c2d4b}
.line{stroke:#6e7681}.head{fill:#6e7681}.page{fill:#0d1117}
.c0{stroke:#58a6ff}.c1{stroke:#ff7b72}.c2{stroke:#56d364}.c3{stroke:#d2a8ff}
.d0{fill:#58a6ff}.d1{fill:#ff7b72}.d2{fill:#56d364}.d3{fill:#d2a8ff}}
</style>
`

// picture draws what is in the folder root.
func picture(root string) ([]byte, error) {
	edges, err := imports(root)
	if err != nil {
		return nil, err
	}
	if edges, err = drawn(edges); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	height := y(boxes[len(boxes)-1].rung) + boxHeight + 24
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Packages and their imports, and the ways of Get, Upsert, Flush and the import">`+"\n", width, height, width, height)
	out.WriteString(style)
	fmt.Fprintf(&out, `<rect class="page" width="%d" height="%d"/>`+"\n", width, height)
	legend(&out)
	c := canvas{out: &out, taken: make(map[int][]span)}
	for i, r := range routes {
		for _, e := range r.steps {
			if err := c.connect(e, fmt.Sprintf("way c%d", i), fmt.Sprintf("d%d", i)); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range reduced(edges) {
		if !onRoute(e) {
			if err := c.connect(e, "line", "head"); err != nil {
				return nil, err
			}
		}
	}
	for _, b := range boxes {
		class := "box"
		if b.name == "kv" {
			class = "box top"
		}
		fmt.Fprintf(&out, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="5"/><text x="%d" y="%d">%s</text><text class="small" x="%[6]d" y="%[9]d">%[10]s</text>`+"\n",
			class, b.from, y(b.rung), b.to-b.from, boxHeight, (b.from+b.to)/2, y(b.rung)+17, b.name, y(b.rung)+32, b.about)
	}
	out.WriteString("</svg>\n")
	return out.Bytes(), nil
}

func y(rung int) int { return top + rung*pitch }

func legend(out *bytes.Buffer) {
	for i, r := range routes {
		x := 60 + i*120
		fmt.Fprintf(out, `<path class="way c%d" d="M%d 24h26"/><text class="legend" x="%d" y="28">%s</text>`+"\n", i, x, x+34, r.name)
	}
	fmt.Fprintf(out, `<path class="line" d="M540 24h26"/><text class="legend small" x="574" y="28">imports (what follows is left out)</text>`+"\n")
}

func onRoute(e edge) bool {
	return slices.ContainsFunc(routes, func(r route) bool { return slices.Contains(r.steps, e) })
}

// A span is a part of a vertical or horizontal line.
type span struct{ from, to int }

// A canvas finds ways for lines that go round the boxes and do not lie on each
// other. A line goes down, to the side in the gap below some rung, and down.
type canvas struct {
	out   *bytes.Buffer
	taken map[int][]span // of the vertical lines at an x
	depth [16]int        // how many have been drawn in a gap
}

// connect draws an edge in the shortest way that is free.
func (c *canvas) connect(e edge, class, head string) error {
	from, to := boxOf(e.from), boxOf(e.to)
	best, bestGap, least := [2]int{}, -1, 1<<30
	for gap := from.rung; gap < to.rung; gap++ {
		for x1 := first(from); x1 < from.to; x1 += step {
			if !c.free(x1, y(from.rung)+boxHeight, y(gap+1)) || hits(x1, from.rung+1, gap) {
				continue
			}
			for x2 := first(to); x2 < to.to; x2 += step {
				if !c.free(x2, y(gap)+boxHeight, y(to.rung)) || hits(x2, gap+1, to.rung-1) {
					continue
				}
				if cost := 9*distance(x1, x2) + distance(x2, (to.from+to.to)/2); cost < least {
					best, bestGap, least = [2]int{x1, x2}, gap, cost
				}
			}
		}
	}
	if bestGap < 0 {
		return fmt.Errorf("there is no room for a line from %s to %s", e.from, e.to)
	}
	c.draw(from, to, best, bestGap, class, head)
	return nil
}

// first is the first place of a line at a box.
func first(b *box) int { return (b.from/step + 1) * step }

func distance(a, b int) int { return max(a-b, b-a) }

func (c *canvas) draw(from, to *box, x [2]int, gap int, class, head string) {
	begin, end := y(from.rung)+boxHeight, y(to.rung)-6
	side := begin
	if x[0] != x[1] {
		side = y(gap) + boxHeight + 8 + 5*(c.depth[gap]%7)
		c.depth[gap]++
	}
	c.taken[x[0]] = append(c.taken[x[0]], span{begin, side})
	c.taken[x[1]] = append(c.taken[x[1]], span{side, y(to.rung)})
	fmt.Fprintf(c.out, `<path class="%s" d="M%d %dV%dH%dV%d"/><path class="%s" d="M%d %dl-4 -8h8z"/>`+"\n",
		class, x[0], begin, side, x[1], end, head, x[1], end+6)
}

// free reports whether no line is near an x between two heights.
func (c *canvas) free(x, from, to int) bool {
	for near := x - step + 1; near < x+step; near++ {
		if slices.ContainsFunc(c.taken[near], func(s span) bool { return s.from < to && from < s.to }) {
			return false
		}
	}
	return true
}

// hits reports whether a vertical line would go through a box of these rungs.
func hits(x, first, last int) bool {
	return slices.ContainsFunc(boxes, func(b box) bool {
		return first <= b.rung && b.rung <= last && b.from-4 < x && x < b.to+4
	})
}
