package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvllm"
)

type llmCmd struct {
	Ls    llmLsCmd    `cmd:"" help:"List stored answers, the newest first: id, model, age, tokens, question."`
	Show  llmShowCmd  `cmd:"" help:"Print what a model answered."`
	Rm    llmRmCmd    `cmd:"" help:"Remove stored answers, by id or by model and age."`
	Stats llmStatsCmd `cmd:"" help:"Show answers, bytes and tokens by operation and model."`
}

// answersIn is which answers are meant.
type answersIn struct {
	Namespace string `default:"llm_response_cache" placeholder:"NAME" help:"Namespace."`
	Model     string `placeholder:"NAME" help:"Only answers of this model."`
	Older     span   `placeholder:"24h" help:"Only answers that are older: seconds, or a duration such as 36h."`
	Newer     span   `placeholder:"1h" help:"Only answers that are newer."`
}

func (f answersIn) any() bool { return f.Model == "" && f.Older == 0 && f.Newer == 0 }

// has reports whether an answer is meant. One of Python's has no time, and so
// is neither older nor newer than anything.
func (f answersIn) has(a *kvllm.Answer, now time.Time) bool {
	if f.Model != "" && a.Model != f.Model {
		return false
	}
	if (f.Older > 0 || f.Newer > 0) && a.Time.IsZero() {
		return false
	}
	age := now.Sub(a.Time)
	return (f.Older == 0 || age > time.Duration(f.Older)) && (f.Newer == 0 || age < time.Duration(f.Newer))
}

// answersAtOnce is how many answers are read at a time.
const answersAtOnce = 50

// each calls do for each answer that is meant, and returns how many documents
// are none.
func (f answersIn) each(ctx context.Context, s kv.Store, do func(id string, a *kvllm.Answer, bytes int) error) (others int, err error) {
	now := time.Now()
	page := make([]string, 0, answersAtOnce)
	read := func() error {
		docs, err := s.GetMany(ctx, page)
		if err != nil && !errors.Is(err, kv.ErrCorrupt) {
			return err
		}
		for i, doc := range docs {
			if doc == nil {
				continue // It has just gone, or is corrupt.
			}
			a, err := kvllm.ParseAnswer(doc)
			if err != nil {
				others++
				continue
			}
			if !f.has(a, now) {
				continue
			}
			if err := do(page[i], a, len(doc)); err != nil {
				return err
			}
		}
		page = page[:0]
		return nil
	}
	for id, err := range s.Keys(ctx) {
		if err != nil {
			return others, err
		}
		if page = append(page, id); len(page) == cap(page) {
			if err := read(); err != nil {
				return others, err
			}
		}
	}
	return others, read()
}

type llmLsCmd struct {
	answersIn
	JSON bool `name:"json" help:"Print one JSON object for each answer, on a line of its own."`
}

// A listedAnswer is what ls keeps of one, which is not its body.
type listedAnswer struct {
	ID        string     `json:"id"`
	Operation string     `json:"operation"`
	Model     string     `json:"model"`
	Question  string     `json:"question"`
	Time      *time.Time `json:"time,omitempty"`
	Stream    bool       `json:"stream"`
	Size      int64      `json:"size"`
	Finish    string     `json:"finish"`
	In        int64      `json:"in"`
	Out       int64      `json:"out"`
}

func listedOf(id string, a *kvllm.Answer) listedAnswer {
	l := listedAnswer{id, a.Operation, a.Model, a.Question, nil, a.Stream, a.Size, a.Finish, a.Usage.InputTokens, a.Usage.OutputTokens}
	if t := a.Time; !t.IsZero() {
		l.Time = &t
	}
	return l
}

func (l listedAnswer) when() time.Time {
	if l.Time == nil {
		return time.Time{}
	}
	return *l.Time
}

func (c *llmLsCmd) Run(ctx context.Context, a *app) error {
	var list []listedAnswer
	others, err := a.answers(ctx, c.answersIn, func(id string, answer *kvllm.Answer, _ int) error {
		list = append(list, listedOf(id, answer))
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b listedAnswer) int {
		return cmp.Or(b.when().Compare(a.when()), cmp.Compare(a.ID, b.ID))
	})
	if others > 0 {
		a.note("%d documents of %s are no answers", others, c.Namespace)
	}
	if c.JSON {
		return jsonLines(a.out, list)
	}
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tMODEL\tAGE\tIN\tOUT\tQUESTION")
	for _, l := range list {
		id := l.ID
		if !safeLine(id) {
			id = quoted(id)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", id, tame(l.Model), ageOf(l.when()), l.In, l.Out, tame(l.Question))
	}
	return w.Flush()
}

// answers looks at the answers of a namespace.
func (a *app) answers(ctx context.Context, f answersIn, do func(string, *kvllm.Answer, int) error) (others int, err error) {
	cfg, err := a.config()
	if err != nil {
		return 0, err
	}
	err = a.look(ctx, cfg, f.Namespace, func(ctx context.Context, s kv.Store) error {
		a.exists(cfg, f.Namespace)
		others, err = f.each(ctx, s, do)
		return err
	})
	return others, err
}

// tame is text without what could play tricks on a terminal or a table.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		if unsafeRune(r) {
			return ' '
		}
		return r
	}, text)
}

// ageOf is how long ago something was, in one unit.
func ageOf(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

type llmShowCmd struct {
	Namespace string `default:"llm_response_cache" placeholder:"NAME" help:"Namespace."`
	ID        string `arg:"" name:"id" help:"Id of the answer."`
	Body      bool   `help:"Print the body of the reply as it came, in place of the text in it."`
}

func (c *llmShowCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	return a.look(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) error {
		doc, err := s.Get(ctx, c.ID)
		if errors.Is(err, kv.ErrNotFound) {
			return failf(exitNothing, "not found: %s has no document %s", c.Namespace, quoted(c.ID))
		}
		if err != nil {
			return err
		}
		answer, err := kvllm.ParseAnswer(doc)
		if err != nil {
			return err
		}
		if c.Body {
			_, err = io.Copy(a.out, answer.Body())
			return err
		}
		_, err = a.out.WriteString(answer.Text() + "\n")
		return err
	})
}

type llmRmCmd struct {
	answersIn
	ID []string `arg:"" optional:"" name:"id" help:"Ids of answers. Without them: all that --model, --older and --newer name."`
}

func (c *llmRmCmd) Run(ctx context.Context, a *app) error {
	if len(c.ID) > 0 && !c.any() || len(c.ID) == 0 && c.any() {
		return failf(exitInvalid, "say which answers: by their ids, or by --model, --older and --newer; kv drop removes all")
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	n := 0
	if a.exists(cfg, c.Namespace) { // Else opening it would make its files.
		err = a.with(ctx, cfg, c.Namespace, func(ctx context.Context, s kv.Store) (err error) {
			ids := c.ID
			if len(ids) == 0 {
				_, err = c.each(ctx, s, func(id string, _ *kvllm.Answer, _ int) error {
					ids = append(ids, id)
					return nil
				})
			}
			if err == nil {
				n, err = s.Delete(ctx, ids...)
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, n)
	if n == 0 {
		return failf(exitNothing, "nothing was removed: %s has no such answer", c.Namespace)
	}
	return nil
}

type llmStatsCmd struct {
	answersIn
	JSON bool `name:"json" help:"Print one JSON object for each operation and model, on a line of its own."`
}

// answerFigures are what stats shows of the answers of one model.
type answerFigures struct {
	Operation string     `json:"operation"`
	Model     string     `json:"model"`
	Answers   int        `json:"answers"`
	Bytes     int64      `json:"bytes"`
	In        int64      `json:"in"`
	Out       int64      `json:"out"`
	Oldest    *time.Time `json:"oldest,omitempty"`
}

func (c *llmStatsCmd) Run(ctx context.Context, a *app) error {
	sums := make(map[[2]string]*answerFigures)
	others, err := a.answers(ctx, c.answersIn, func(_ string, answer *kvllm.Answer, bytes int) error {
		key := [2]string{answer.Operation, answer.Model}
		f := sums[key]
		if f == nil {
			f = &answerFigures{Operation: answer.Operation, Model: answer.Model}
			sums[key] = f
		}
		f.Answers++
		f.Bytes += int64(bytes)
		f.In += answer.Usage.InputTokens
		f.Out += answer.Usage.OutputTokens
		if t := answer.Time; !t.IsZero() && (f.Oldest == nil || t.Before(*f.Oldest)) {
			f.Oldest = &t
		}
		return nil
	})
	if err != nil {
		return err
	}
	if others > 0 {
		a.note("%d documents of %s are no answers", others, c.Namespace)
	}
	list := make([]*answerFigures, 0, len(sums))
	for _, f := range sums {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *answerFigures) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Model, b.Model))
	})
	return c.print(a, list)
}

func (c *llmStatsCmd) print(a *app, list []*answerFigures) error {
	if c.JSON {
		return jsonLines(a.out, list)
	}
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OPERATION\tMODEL\tANSWERS\tBYTES\tIN\tOUT\tOLDEST")
	for _, f := range list {
		oldest := time.Time{}
		if f.Oldest != nil {
			oldest = *f.Oldest
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%s\n", tame(f.Operation), tame(f.Model), f.Answers, size(f.Bytes), f.In, f.Out, ageOf(oldest))
	}
	return w.Flush()
}
