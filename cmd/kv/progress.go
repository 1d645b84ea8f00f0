package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// How often progress is told where there is no terminal, and drawn on one.
const (
	tellEvery = 10 * time.Second
	drawEvery = 100 * time.Millisecond
	barLength = 20
)

// A progress shows how far a long command is, on stderr: a bar on a terminal,
// or else a line now and then. It is used by one goroutine at a time.
type progress struct {
	app   *app
	what  string
	bytes bool // are counted, and not documents
	began time.Time
	told  time.Time
	drawn time.Time // zero: there is no bar
}

func (a *app) progress(what string) *progress {
	now := time.Now()
	return &progress{app: a, what: what, began: now, told: now}
}

// at says how much is done. total is 0 where it is not known.
func (p *progress) at(done, total int64) {
	if p.app.std.errTerminal {
		p.draw(done, total)
		return
	}
	if time.Since(p.told) < tellEvery {
		return
	}
	p.told = time.Now()
	p.app.note("%s: %s", p.what, p.figures(done, total))
}

// figures say how much is done, and how much in a second.
func (p *progress) figures(done, total int64) string {
	text := p.count(done)
	if total > 0 {
		text += " of " + p.count(total)
	}
	seconds := max(time.Since(p.began), time.Millisecond).Seconds()
	return fmt.Sprintf("%s, %s/s", text, p.count(int64(float64(done)/seconds)))
}

func (p *progress) count(n int64) string {
	if p.bytes {
		return size(n)
	}
	return fmt.Sprintf("%d documents", n)
}

// draw draws a bar, or figures alone where the total is not known. What is done
// last is drawn at once.
func (p *progress) draw(done, total int64) {
	if time.Since(p.drawn) < drawEvery && done != total {
		return
	}
	p.drawn = time.Now()
	bar := ""
	if total > 0 {
		done = min(done, total) // More may have been written meanwhile.
		full := int(done * barLength / total)
		bar = fmt.Sprintf(" %d%% |%s%s|", 100*done/total, strings.Repeat("█", full), strings.Repeat(" ", barLength-full))
	}
	fmt.Fprintf(p.app.std.err, "\r%s%s %s\x1b[K", p.what, bar, p.figures(done, total))
}

// end removes the bar.
func (p *progress) end() {
	if !p.drawn.IsZero() {
		_, _ = io.WriteString(p.app.std.err, "\r\x1b[2K")
		p.drawn = time.Time{}
	}
}

// A lineCounter counts lines, each a document.
type lineCounter struct {
	w     io.Writer
	bar   *progress
	lines int64
}

func (c *lineCounter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			c.lines++
		}
	}
	c.bar.at(c.lines, 0)
	return c.w.Write(p)
}

// A byteCounter counts the bytes that are read of one or more files, until ctx
// is done. The total is 0 where it is not known.
type byteCounter struct {
	ctx         context.Context
	bar         *progress
	done, total int64
}

func (a *app) byteCounter(ctx context.Context, what string, total int64) *byteCounter {
	bar := a.progress(what)
	bar.bytes = true
	return &byteCounter{ctx: ctx, bar: bar, total: total}
}

func (c *byteCounter) of(r io.Reader) io.Reader { return countedReader{r, c} }

type countedReader struct {
	io.Reader
	counter *byteCounter
}

func (r countedReader) Read(p []byte) (int, error) {
	if err := r.counter.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.Reader.Read(p)
	r.counter.done += int64(n)
	r.counter.bar.at(r.counter.done, r.counter.total)
	return n, err
}
