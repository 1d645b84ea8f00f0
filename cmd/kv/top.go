package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ngraf/kv"
)

type topCmd struct {
	Namespaces []string `arg:"" name:"namespace" optional:"" help:"Namespaces. Without one: all."`
	Every      span     `default:"2s" placeholder:"2s" help:"How often to look."`
	Inspect    span     `default:"30s" placeholder:"30s" help:"How often to look into each namespace, which lists its ids and reads a sample. 0: never."`
	Metrics    string   `placeholder:"URL" help:"A service's metrics for Prometheus, as in http://localhost:9464/metrics."`
	Frames     int      `short:"n" placeholder:"N" help:"End after so many looks. 0: run until interrupted."`
}

// Validate is called by kong.
func (c *topCmd) Validate() error {
	if c.Every < span(100*time.Millisecond) {
		return errors.New("--every: at least 100ms")
	}
	return nil
}

// A look is what was seen at one moment.
type look struct {
	at         time.Time
	where      string
	servers    map[string]map[string]string // the fields of INFO, by server
	failed     error                        // why the servers could not be asked
	namespaces []inspected
	metrics    string   // where the service's figures are
	service    *service // nil: not asked, or it did not answer
	absent     error    // why it did not
}

// inspected is what a namespace held when it was last looked into.
type inspected struct {
	namespace string
	at        time.Time // zero: never
	figures
	failed error
}

func (c *topCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	names := c.Namespaces
	if len(names) == 0 {
		if names, err = a.namespaces(ctx, cfg); err != nil {
			return err
		}
	}
	now := look{where: inEffect(cfg, "REDIS_URL"), metrics: c.Metrics}
	var servers kv.Store
	if isJSON(cfg) {
		now.where = workingDir(cfg)
	} else {
		err := a.within(ctx, func(ctx context.Context) (err error) {
			servers, err = kv.Open(ctx, cfg, pingNamespace, kv.WithReadOnly(), kv.WithLogger(a.logger()))
			return err
		})
		if err != nil {
			return err
		}
		defer servers.Close()
	}
	for _, name := range names {
		now.namespaces = append(now.namespaces, inspected{namespace: name})
	}
	d := display{app: a}
	defer d.end()
	return c.watch(ctx, a, cfg, servers, now, &d)
}

// watch looks and draws until ctx is done, which is how it is meant to end.
func (c *topCmd) watch(ctx context.Context, a *app, cfg kv.Config, servers kv.Store, now look, d *display) error {
	turns := time.NewTicker(time.Duration(c.Every))
	defer turns.Stop()
	var before *look
	for frame := 1; ; frame++ {
		if frame == 1 {
			for range now.namespaces {
				c.inspect(ctx, a, cfg, &now)
			}
		} else {
			c.inspect(ctx, a, cfg, &now)
		}
		_ = a.within(ctx, func(ctx context.Context) error { // What fails is shown.
			now.ask(ctx, servers)
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if err := d.draw(before, now); err != nil || frame == c.Frames {
			return err
		}
		then := now
		then.namespaces = nil
		before = &then
		select {
		case <-turns.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// inspect looks into the namespace that was not looked into for longest, if
// it is time. Only one, so that a frame does not wait for all of them.
func (c *topCmd) inspect(ctx context.Context, a *app, cfg kv.Config, now *look) {
	var oldest *inspected
	for i := range now.namespaces {
		if n := &now.namespaces[i]; oldest == nil || n.at.Before(oldest.at) {
			oldest = n
		}
	}
	if oldest == nil || c.Inspect == 0 || time.Since(oldest.at) < time.Duration(c.Inspect) {
		return
	}
	found, err := a.glance(ctx, cfg, oldest.namespace)
	oldest.at, oldest.failed = time.Now(), err
	if err == nil {
		oldest.figures = found
	}
}

// ask asks the servers and the service. What does not answer is shown.
func (l *look) ask(ctx context.Context, servers kv.Store) {
	l.at, l.servers, l.failed, l.service, l.absent = time.Now(), nil, nil, nil, nil
	if servers != nil {
		if s, ok := kv.As[interface {
			ServerInfo(context.Context) (map[string]map[string]string, error)
		}](servers); ok {
			l.servers, l.failed = s.ServerInfo(ctx)
		}
	}
	if l.metrics != "" {
		l.service, l.absent = scrape(ctx, l.metrics)
	}
}

// A display shows frames: on a terminal each in the place of the last, or else
// one after the other.
type display struct {
	app   *app
	taken bool // the screen
}

// What all terminals of today understand.
const (
	takeScreen  = "\x1b[?1049h\x1b[?25l" // and hide the cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K\r\n"
	clearBelow  = "\x1b[J"
)

func (d *display) draw(before *look, now look) error {
	lines := view(before, now)
	width, height, ok := 0, 0, false
	if d.app.std.screen != nil {
		width, height, ok = d.app.std.screen()
	}
	out := d.app.out
	if !ok {
		for _, l := range lines {
			fmt.Fprintln(out, l)
		}
		fmt.Fprintln(out)
		return out.Flush()
	}
	if !d.taken {
		d.taken = true
		fmt.Fprint(out, takeScreen)
	}
	fmt.Fprint(out, home)
	for i, l := range lines {
		if i >= height-1 {
			break
		}
		if text := []rune(l); len(text) > width {
			l = string(text[:width])
		}
		fmt.Fprint(out, l, endOfLine)
	}
	fmt.Fprint(out, clearBelow)
	return out.Flush()
}

// end gives the terminal back.
func (d *display) end() {
	if d.taken {
		fmt.Fprint(d.app.out, leaveScreen)
	}
}
