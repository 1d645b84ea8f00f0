// Package leaktest finds ids, values and secrets in what a program says: its
// log, its errors, and what instrumentation makes of its calls.
package leaktest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// What is shorter than least is not looked for, since it would be found in
// words; from piece on an id or value is looked for in pieces of that length,
// so that any excerpt of twice that holds one whole.
const least, piece = 6, 12

// A short piece that is made of letters is a word, which the text of an error may hold.
const letters = "abcdefghijklmnopqrstuvwxyz"

// A Watch knows every id and value that went through its stores, and all that
// was said of them: log lines, errors, and what it is told of with Say.
type Watch struct {
	mu     sync.Mutex
	secret map[string]bool // pieces
	said   map[string]bool
}

// New returns a watch that knows a password, which must be seen nowhere. Its
// beginning is looked for.
func New(password string) *Watch {
	return &Watch{secret: map[string]bool{password[:piece]: true}, said: make(map[string]bool)}
}

// Hide keeps the pieces of an id or value; of a long one, those it begins with.
// Pieces that repeat one character would be found anywhere.
func (w *Watch) Hide(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := min(len(text), piece); n >= least && len(w.secret) < 1_000_000; n = piece {
		p := text[:n]
		if same := strings.Count(p, p[:1]) >= n-1; !same && (n == piece || strings.Trim(p, letters) != "") {
			w.secret[strings.Clone(p)] = true
		}
		if text = text[n:]; len(text) < piece {
			break
		}
	}
}

// HideItems hides ids and values.
func (w *Watch) HideItems(items map[string]json.RawMessage) {
	for id, value := range items {
		w.Hide(id)
		w.Hide(string(value[:min(len(value), 1<<10)]))
	}
}

// Say tells the watch of a text that anyone may read.
func (w *Watch) Say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[text] = true
}

// Write makes a watch what a logger writes to. The time is no secret.
func (w *Watch) Write(line []byte) (int, error) {
	_, rest, _ := strings.Cut(string(line), " ")
	w.Say(rest)
	return len(line), nil
}

// Logger returns one whose lines of every level are looked at.
func (w *Watch) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Seen returns how many pieces are looked for, and in how many texts.
func (w *Watch) Seen() (pieces, texts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.secret), len(w.said)
}

// Leaks returns what was said that holds a piece of what was hidden.
func (w *Watch) Leaks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, text := range slices.Sorted(maps.Keys(w.said)) {
		if p := w.leak(text); p != "" {
			found = append(found, fmt.Sprintf("%q in %.300q", p, text))
		}
	}
	return found
}

func (w *Watch) leak(text string) string {
	for i := range len(text) {
		for n := least; n <= piece && i+n <= len(text); n++ {
			if w.secret[text[i:i+n]] {
				return text[i : i+n]
			}
		}
	}
	return ""
}
