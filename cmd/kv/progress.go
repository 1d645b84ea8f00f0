package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressEvery is how often progress is told where there is no terminal.
const progressEvery = 10 * time.Second

// A progress shows how far a long command is, on stderr: a bar on a terminal,
// or else a line now and then. It is used by one goroutine at a time.
type progress struct {
	app   *app
	what  string
	bytes bool // are counted, and not documents
	bar   *progressbar.ProgressBar
	began time.Time
	told  time.Time
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
	if time.Since(p.told) < progressEvery {
		return
	}
	p.told = time.Now()
	text := p.count(done)
	if total > 0 {
		text += " of " + p.count(total)
	}
	p.app.note("%s: %s, %s/s", p.what, text, p.count(int64(float64(done)/time.Since(p.began).Seconds())))
}

func (p *progress) count(n int64) string {
	if p.bytes {
		return size(n)
	}
	return fmt.Sprintf("%d documents", n)
}

func (p *progress) draw(done, total int64) {
	if total == 0 {
		total = -1
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.app.std.err),
			progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("documents"),
			progressbar.OptionShowBytes(p.bytes),
			progressbar.OptionSetWidth(20),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSpinnerType(14),
			progressbar.OptionSetSpinnerChangeInterval(0), // It turns with the count, and needs no goroutine.
		)
	}
	if total > 0 {
		done = min(done, total) // More may have been written meanwhile.
	}
	_ = p.bar.Set64(done)
}

// end removes the bar.
func (p *progress) end() {
	if p.bar != nil {
		_, _ = io.WriteString(p.app.std.err, "\r\x1b[2K") // Clear does nothing once the bar is full.
		p.bar = nil
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
