package kvllm

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// A Bill counts what the requests of clients cost, and what they would have
// cost. The zero value is ready. It may be used by any number of goroutines.
type Bill struct {
	mu    sync.Mutex
	lines map[lineKey]*Line
}

type lineKey struct{ operation, model string }

// A Line is what a Bill has for one operation with one model. Requests is the
// sum of Hits, Misses and Bypassed.
type Line struct {
	Operation string
	Model     string

	Requests int64
	Hits     int64            // answered without the provider, or by what another caller just paid
	Misses   int64            // for which the provider was asked
	Refused  map[string]int64 // of Misses, those whose answer is not kept, by reason
	Bypassed int64            // that passed by the cache; their tokens are not known

	Spent Amount // of Misses, those with an answer
	Saved Amount // of Hits
}

// An Amount is what answers cost.
type Amount struct {
	Usage
	Money float64 // by Options.Price
}

func (a *Amount) add(b Amount) {
	a.InputTokens += b.InputTokens
	a.OutputTokens += b.OutputTokens
	a.CachedTokens += b.CachedTokens
	a.Money += b.Money
}

// most bounds the models of a bill and the reasons of a line, which come from
// outside. What is more counts as other.
const mostLines, mostReasons, other = 1000, 50, "other"

// Lines returns the lines of the bill until now, by operation and model.
func (b *Bill) Lines() []Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := make([]Line, 0, len(b.lines))
	for _, l := range b.lines {
		line := *l
		line.Refused = maps.Clone(l.Refused)
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Model, b.Model))
	})
	return lines
}

// Total returns the sum of all lines, without operation and model.
func (b *Bill) Total() Line {
	sum := Line{Refused: make(map[string]int64)}
	for _, l := range b.Lines() {
		sum.Requests += l.Requests
		sum.Hits += l.Hits
		sum.Misses += l.Misses
		sum.Bypassed += l.Bypassed
		for reason, n := range l.Refused {
			sum.Refused[reason] += n
		}
		sum.Spent.add(l.Spent)
		sum.Saved.add(l.Saved)
	}
	return sum
}

// count lets do change a line.
func (b *Bill) count(operation, model string, do func(*Line)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := lineKey{operation, model}
	if b.lines[key] == nil && len(b.lines) >= mostLines {
		key.model = other
	}
	l := b.lines[key]
	if l == nil {
		if b.lines == nil {
			b.lines = make(map[lineKey]*Line)
		}
		l = &Line{Operation: key.operation, Model: key.model, Refused: make(map[string]int64)}
		b.lines[key] = l
	}
	do(l)
	l.Requests = l.Hits + l.Misses + l.Bypassed
}

func (l *Line) refuse(reason string) {
	if _, ok := l.Refused[reason]; !ok && len(l.Refused) >= mostReasons {
		reason = other
	}
	l.Refused[reason]++
}

// amount returns what an answer costs.
func (t *transport) amount(a *Answer) Amount {
	cost := Amount{Usage: a.Usage}
	if t.o.Price != nil {
		cost.Money = t.o.Price(a.Model, a.Usage)
	}
	return cost
}

// hit counts requests that were answered by a.
func (t *transport) hit(a *Answer, requests int) {
	cost := t.amount(a)
	t.o.Bill.count(a.Operation, a.Model, func(l *Line) {
		l.Hits += int64(requests)
		for range requests {
			l.Saved.add(cost)
		}
	})
}
