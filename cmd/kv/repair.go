package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ngraf/kv"
)

type repairCmd struct {
	Namespace string `arg:"" help:"Namespace."`
	JSON      bool   `name:"json" help:"Print the report as one JSON object."`
}

func (c *repairCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if isJSON(cfg) && !a.exists(cfg, c.Namespace) {
		return failf(exitNothing, "there are no files of %s in %s", c.Namespace, workingDir(cfg))
	}
	var report kv.RepairReport
	err = a.within(ctx, func(ctx context.Context) error {
		report, err = kv.Repair(ctx, cfg, c.Namespace, kv.WithLogger(a.logger()))
		return err
	})
	if c.JSON {
		return errors.Join(err, json.NewEncoder(a.out).Encode(report))
	}
	for _, name := range report.Copies {
		fmt.Fprintln(a.out, "copied the file as it was to "+name)
	}
	for _, loss := range report.Lost {
		fmt.Fprintf(a.out, "lost in %s: %d bytes at offset %d (%s)\n", loss.File, loss.Bytes, loss.Offset, loss.Reason)
	}
	switch {
	case err != nil:
		return err
	case len(report.Copies) == 0:
		fmt.Fprintf(a.out, "nothing is wrong with %s; it has %d documents\n", c.Namespace, report.Documents)
	default:
		fmt.Fprintf(a.out, "repaired %s; it has %d documents\n", c.Namespace, report.Documents)
	}
	return nil
}
