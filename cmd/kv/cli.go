package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/units"
)

// cli is the grammar of the command line.
type cli struct {
	Backend *string     `placeholder:"NAME" help:"Backend to use in place of STORAGE_KV_BACKEND: json or redis."`
	Dir     *string     `placeholder:"PATH" help:"Directory of the document files in place of STORAGE_WORKING_DIR."`
	Timeout span        `default:"30s" placeholder:"30s" help:"How long to wait for the backend: seconds, or a duration such as 2m. 0: for ever."`
	Version versionFlag `help:"Show the version and exit."`

	Demo    demoCmd    `cmd:"" help:"Show in a second what kv does; needs nothing."`
	Ls      lsCmd      `cmd:"" help:"List the ids of a namespace, or the namespaces."`
	Get     getCmd     `cmd:"" help:"Print documents."`
	Put     putCmd     `cmd:"" help:"Store a document."`
	Rm      rmCmd      `cmd:"" help:"Remove documents."`
	Count   countCmd   `cmd:"" help:"Count the documents of a namespace."`
	Stats   statsCmd   `cmd:"" help:"Show documents and bytes by namespace."`
	Top     topCmd     `cmd:"" help:"Watch the server, the namespaces and a service, live."`
	Inspect inspectCmd `cmd:"" help:"Show what a namespace holds: sizes, times to live, the biggest."`
	Doctor  doctorCmd  `cmd:"" help:"Look for what loses documents: settings of the server, full disks, damaged values."`
	LLM     llmCmd     `cmd:"" name:"llm" help:"List, show, count and remove stored answers of language models."`
	Drop    dropCmd    `cmd:"" help:"Remove all documents of a namespace."`
	Repair  repairCmd  `cmd:"" help:"Salvage a namespace whose files are damaged."`

	Migrate migrateCmd `cmd:"" help:"Copy documents from the files to Redis, or back."`
	Verify  verifyCmd  `cmd:"" help:"Compare the files with Redis."`
	Export  exportCmd  `cmd:"" help:"Write documents to a file, as a backup."`
	Import  importCmd  `cmd:"" help:"Store the documents of an export, or of a backup of nano-graphrag."`

	Ping   pingCmd   `cmd:"" help:"See whether the backend answers."`
	Config configCmd `cmd:"" help:"Show the settings in effect and where each comes from."`
}

// Validate is called by kong. An empty flag is usually a shell variable that
// was not set, and must not lead to the default directory.
func (c *cli) Validate() error {
	if c.Backend != nil && !slices.ContainsFunc(kv.Backends(), func(name string) bool { return strings.EqualFold(name, *c.Backend) }) {
		return fmt.Errorf("--backend: there is no backend %q; there are %s", *c.Backend, strings.Join(kv.Backends(), ", "))
	}
	if c.Dir != nil && *c.Dir == "" {
		return errors.New("--dir: the path is empty")
	}
	return nil
}

// streams are what a process has of its caller.
type streams struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // somebody may be typing on in

	screen func() (width, height int, ok bool) // of the terminal that out is; nil: it is none

	errTerminal bool // somebody may be looking at err
}

// run is the whole program but for the process, and returns its exit code.
func run(ctx context.Context, args, environ []string, std streams) int {
	help := std.out
	if len(args) == 0 {
		args, help = []string{"--help"}, std.err
	}
	var grammar cli
	exited := false
	parser, err := kong.New(&grammar,
		kong.Name("kv"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(&heldWriter{w: help}, std.err),
		kong.KindMapper(reflect.String, kong.MapperFunc(verbatim)),
		kong.Exit(func(int) { exited = true }), // After help and version; parsing goes on.
	)
	if err != nil {
		return report(std.err, err)
	}
	parsed, err := parser.Parse(args)
	output := (*outputError)(nil)
	switch {
	case errors.As(err, &output):
		return report(std.err, err)
	case exited && help == std.err:
		return exitInvalid
	case exited:
		return exitOK
	case err != nil:
		return report(std.err, usageError(err))
	}
	a := newApp(&grammar, environ, std)
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = a.flush(parsed.Run(a))
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errInterrupted, err)
	}
	return report(std.err, err)
}

// verbatim reads an argument as it is. Kong's own way would put U+FFFD for
// what is not UTF-8, and so name another document or another directory.
func verbatim(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err
	}
	text, ok := token.Value.(string)
	if !ok {
		return fmt.Errorf("expected a text but got %T", token.Value)
	}
	target.SetString(text)
	return nil
}

// usageError names the command whose help is wanted.
func usageError(err error) error {
	command := "kv"
	if parse := (*kong.ParseError)(nil); errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		command = parse.Context.Selected().FullPath()
	}
	return fmt.Errorf("%w; see %s --help", &failure{exitInvalid, err.Error()}, command)
}

// A span is a length of time as the environment variables give it: seconds,
// or a duration.
type span time.Duration

func (s *span) UnmarshalText(text []byte) error {
	d, err := units.Duration(string(text))
	if err != nil {
		return err
	}
	if d < 0 {
		return fmt.Errorf("%s is negative", text)
	}
	*s = span(d)
	return nil
}
