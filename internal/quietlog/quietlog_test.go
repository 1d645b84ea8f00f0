package quietlog

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// docs/monitoring.md, Logs: a warning is passed on once in ten seconds for
// each namespace, and the next says how many were left out. Infos pass.
func TestRepeats(t *testing.T) {
	var out bytes.Buffer
	plain := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	l := WithoutRepeats(plain)
	began := time.Now()
	say := func(l *slog.Logger, after time.Duration, level slog.Level, message string) string {
		out.Reset()
		r := slog.NewRecord(began.Add(after), level, message, 0)
		r.Add("n", 1)
		require.NoError(t, l.Handler().Handle(t.Context(), r))
		return strings.TrimSpace(out.String())
	}
	docs, other := l.With("namespace", "docs"), l.With("namespace", "other")
	for _, test := range []struct {
		l     *slog.Logger
		after time.Duration
		level slog.Level
		want  string
	}{
		{docs, 0, slog.LevelWarn, "level=WARN msg=m namespace=docs n=1"},
		{docs, 1, slog.LevelWarn, ""},
		{other, 1, slog.LevelWarn, "level=WARN msg=m namespace=other n=1"},
		{l, 1, slog.LevelError, "level=ERROR msg=m n=1"},
		{docs, repeatAfter - 1, slog.LevelWarn, ""},
		{docs, repeatAfter, slog.LevelWarn, "level=WARN msg=m namespace=docs n=1 repeated=2"},
		{docs.With("x", 1), repeatAfter + 1, slog.LevelWarn, ""},
		{docs, repeatAfter + 1, slog.LevelInfo, "level=INFO msg=m namespace=docs n=1"},
		{WithRepeats(l), 1, slog.LevelWarn, "level=WARN msg=m n=1"},
		{docs, 3 * repeatAfter, slog.LevelWarn, "level=WARN msg=m namespace=docs n=1 repeated=1"},
		{docs, 4 * repeatAfter, slog.LevelWarn, "level=WARN msg=m namespace=docs n=1"},
	} {
		require.Equal(t, test.want, say(test.l, test.after, test.level, "m"), "after %v", test.after)
	}
	for i := range 1000 {
		require.NotEmpty(t, say(docs, time.Duration(i)*time.Second, slog.LevelWarn, strconv.Itoa(i)))
	}
	said := l.Handler().(*repeatHandler).said
	require.Less(t, len(said), 15, "messages with a text of their own are forgotten")
}
