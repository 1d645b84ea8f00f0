package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A sample is a line of a service's metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// Bounds of what a service is believed to have to say.
const (
	longestLine = 64 << 10
	longestText = 32 << 20
)

// readSamples hands each sample of a text in Prometheus' format to take. Types
// and helps are comments here: a name says enough of a metric of ours. A text
// that ends within a line is refused, since a number cut short is another one.
//
// Format: https://prometheus.io/docs/instrumenting/exposition_formats/
func readSamples(text io.Reader, take func(sample) error) error {
	lines := bufio.NewReaderSize(text, longestLine)
	for number, length := 1, 0; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		switch length += len(line); {
		case length > longestText:
			err = fmt.Errorf("the text is longer than %s", size(longestText))
		case errors.Is(err, io.EOF):
			err = errors.New("the text ends within it")
		case errors.Is(err, bufio.ErrBufferFull):
			err = fmt.Errorf("it is longer than %s", size(longestLine))
		case err == nil:
			if line := strings.TrimSpace(string(line)); line == "" || line[0] == '#' {
				continue
			} else if s, ok := parseSample(line); ok {
				err = take(s)
			} else {
				err = errors.New("it is not a name, labels and a number")
			}
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
}

// parseSample reads NAME{LABEL="VALUE",...} NUMBER TIME, of which labels and
// time may be missing. A name that is not of letters stands in quotes between
// the braces.
func parseSample(line string) (s sample, ok bool) {
	s.name, line = word(line)
	if after, braced := mark(line, "{"); braced {
		if line, ok = s.readLabels(after); !ok {
			return s, false
		}
	}
	figures := strings.Fields(line)
	if s.name == "" || len(figures) == 0 || len(figures) > 2 {
		return s, false
	}
	if len(figures) == 2 {
		if _, err := strconv.ParseInt(figures[1], 10, 64); err != nil {
			return s, false
		}
	}
	var err error
	s.value, err = strconv.ParseFloat(figures[0], 64)
	return s, err == nil
}

// readLabels returns what follows the brace that ends the labels.
func (s *sample) readLabels(line string) (rest string, ok bool) {
	s.labels = make(map[string]string)
	for {
		if after, end := mark(line, "}"); end {
			return after, true
		}
		name, after, ok := unquote(line)
		if !ok {
			name, after = word(line)
		}
		if value, labelled := mark(after, "="); labelled && name != "" {
			if s.labels[name], after, ok = unquote(value); !ok {
				return "", false
			}
		} else if s.name != "" {
			return "", false
		} else {
			s.name = name
		}
		var more bool
		if line, more = mark(after, ","); !more && !strings.HasPrefix(line, "}") {
			return "", false
		}
	}
}

const blanks = " \t"

// mark cuts a mark from what follows it, if the text begins with it.
func mark(text, m string) (rest string, found bool) {
	return strings.CutPrefix(strings.TrimLeft(text, blanks), m)
}

// word cuts a name from what follows it.
func word(text string) (name, rest string) {
	text = strings.TrimLeft(text, blanks)
	if i := strings.IndexAny(text, blanks+`{}",=`); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}

// unquote cuts a string in quotes from what follows it. A backslash stands
// before quotes, before another, and before the n of an end of line.
func unquote(text string) (value, rest string, ok bool) {
	if text, ok = mark(text, `"`); !ok {
		return "", "", false
	}
	var b strings.Builder
	for {
		i := strings.IndexAny(text, `"\`)
		if i < 0 {
			return "", "", false
		}
		b.WriteString(text[:i])
		if text[i] == '"' {
			return b.String(), text[i+1:], true
		}
		if text = text[i+1:]; text == "" {
			return "", "", false
		}
		escaped := strings.IndexByte(`"\n`, text[0])
		if escaped < 0 {
			return "", "", false
		}
		b.WriteByte("\"\\\n"[escaped])
		text = text[1:]
	}
}
