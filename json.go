package kv

import (
	"context"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redisstore"
)

// JSONStats are the figures of a namespace's files.
type JSONStats struct {
	Documents     int   // in the namespace, those that expired since the last look included
	SnapshotBytes int64 // size of the document file
	JournalBytes  int64 // size of the journals
	Compactions   int64 // since the namespace was opened
}

// A RepairReport says what Repair found and did.
type RepairReport struct {
	Documents int      // in the namespace now
	Lost      []Loss   // parts that could not be read; none: nothing was wrong
	Copies    []string // paths of the copies of the files as they were
}

// A Loss is a part of a file that could not be read.
type Loss struct {
	File   string // its name in the working directory
	Offset int64
	Bytes  int64
	Reason string
}

// Repair salvages what can be read of a json namespace that does not open
// because its files are damaged ([ErrCorrupt]). It first copies every file of
// the namespace, byte for byte, to <name>.damaged-<time> beside it. Then it
// writes a document file with all that is sound: documents whose end is
// certain, and all records of the journals with a right checksum, in their
// order, also behind the damage.
//
// What was lost is in the report. A document whose last write was lost may
// come back with the value that it had before. A namespace that opens as it
// is, is left as it is.
func Repair(ctx context.Context, cfg Config, namespace string, opts ...Option) (RepairReport, error) {
	f, err := NewFactory(cfg, opts...)
	if err != nil {
		return RepairReport{}, err
	}
	report, err := f.repair(ctx, namespace)
	if err != nil {
		return report, &Error{Op: "repair", Namespace: printable(namespace), Err: err}
	}
	return report, nil
}

func (f *Factory) repair(ctx context.Context, namespace string) (RepairReport, error) {
	if err := engine.CheckNamespace(namespace); err != nil {
		return RepairReport{}, err
	}
	if f.cfg.backend() != "json" {
		return RepairReport{}, fault.Invalidf("only the json backend has files to repair")
	}
	found, err := jsonstore.Repair(ctx, f.jsonOptions(namespace))
	report := RepairReport{Documents: found.Documents, Copies: found.Copies}
	for _, l := range found.Lost {
		report.Lost = append(report.Lost, Loss(l))
	}
	return report, err
}

// jsonOptions are the settings of a namespace's files.
func (f *Factory) jsonOptions(namespace string) jsonstore.Options {
	return jsonstore.Options{
		Dir:       f.cfg.workingDir(),
		Namespace: namespace,
		Default:   f.cfg.ttlFor(namespace) > 0,
		Policy:    jsonstore.Policy(f.cfg.JSON.fsync()),
		ReadOnly:  f.opts.readonly,
		Logger:    f.opts.logger,
	}
}

// figures puts those of an engine into stats.
func (s *store) figures(stats *Stats) {
	switch e := s.engine.(type) {
	case *jsonstore.Engine:
		figures, last := e.Figures()
		stats.JSON = (*JSONStats)(&figures)
		if last != nil && last.At.After(stats.LastFlush.At) {
			stats.LastFlush = FlushStats(*last)
		}
	case *redisstore.Engine:
		stats.Redis = (*RedisStats)(e.Figures())
	}
}
