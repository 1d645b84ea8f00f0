package merge

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/base"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	changeNames = []string{"none", "new", "same", "changed", "gone", "expired"}
	actionNames = []string{"stays", "store", "remove", "refuse"}
	memoryNames = []string{"as before", "the file's", "the file's, open", "Redis's", "nothing"}
)

// The table of docs/migration.md, in full: every case there can be, the row it
// is, and what is done with it each way.
const theTable = `
file    redis   alike  row              to redis             to redis, delete     to files
none    none           on neither side  stays (nothing)      stays (nothing)      stays (nothing)
none    new            Redis wrote      stays (as before)    stays (as before)    store (Redis's)
new     none           the file wrote   store (the file's)   store (the file's)   stays (as before)
new     new            conflict         stays (the file's, open)  stays (the file's, open)  stays (as before)
new     new     yes    alike            stays (the file's)   stays (the file's)   stays (the file's)
same    same    yes    alike            stays (the file's)   stays (the file's)   stays (the file's)
same    changed        Redis wrote      stays (as before)    stays (as before)    store (Redis's)
same    gone           Redis removed    stays (as before)    stays (as before)    remove (nothing)
same    expired        Redis expired    stays (as before)    stays (as before)    stays (as before)
changed same           the file wrote   store (the file's)   store (the file's)   stays (as before)
changed changed        conflict         stays (the file's, open)  stays (the file's, open)  stays (as before)
changed changed yes    alike            stays (the file's)   stays (the file's)   stays (the file's)
changed gone           conflict         stays (the file's, open)  stays (the file's, open)  stays (as before)
changed expired        the file wrote   store (the file's)   store (the file's)   stays (as before)
gone    same           the file removed  stays (as before)   remove (nothing)     store (Redis's)
gone    changed        Redis wrote      stays (as before)    stays (as before)    store (Redis's)
gone    gone           on neither side  stays (nothing)      stays (nothing)      stays (nothing)
gone    expired        on neither side  stays (nothing)      stays (nothing)      stays (nothing)
`

// Each case has the row and the actions of the table; the test prints the
// table that the code makes.
func TestTable(t *testing.T) {
	rules := []Rule{{Way: ToRedis}, {Way: ToRedis, Delete: true}, {Way: ToFiles}}
	var got strings.Builder
	line := func(c Case) {
		alike := map[bool]string{true: "yes"}[c.Alike]
		fmt.Fprintf(&got, "\n%s %s %s %v", changeNames[c.File], changeNames[c.Redis], alike, c.Row())
		for _, r := range rules {
			row, action, memory := r.Apply(c)
			require.Equal(t, c.Row(), row)
			fmt.Fprintf(&got, " %s (%s)", actionNames[action], memoryNames[memory])
		}
	}
	for _, c := range cases() {
		line(c)
	}
	t.Log(got.String())
	squeeze := func(text string) string {
		var lines []string
		for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
			lines = append(lines, strings.Join(strings.Fields(l), " "))
		}
		return strings.Join(lines, "\n")
	}
	_, want, _ := strings.Cut(theTable, "to files\n")
	require.Equal(t, squeeze(want), squeeze(got.String()))
}

// cases are all that there can be without an open conflict.
func cases() (all []Case) {
	for _, file := range []Change{None, New, Same, Changed, Gone} {
		for _, redis := range []Change{None, New, Same, Changed, Gone, Expired} {
			known := file != None && file != New
			if known != (redis != None && redis != New) {
				continue // One of them is in the base, and so is the other.
			}
			both := file != Gone && redis != Gone && redis != Expired && file != None && redis != None
			always := file == Same && redis == Same
			never := (file == Same) != (redis == Same)
			if !always {
				all = append(all, Case{File: file, Redis: redis})
			}
			if both && !never {
				all = append(all, Case{File: file, Redis: redis, Alike: true})
			}
		}
	}
	return all
}

// A conflict is decided by whoever is asked to, and stays open else. What an
// open one has in common with a decided one: nothing is raised, and nothing
// lost.
func TestConflicts(t *testing.T) {
	changed := Case{File: Changed, Redis: Changed}
	gone := Case{File: Changed, Redis: Gone}
	for _, tt := range []struct {
		c      Case
		rule   Rule
		action Action
		memory Memory
	}{
		{changed, Rule{ToRedis, Nobody, false}, Stay, OfFileOpen},
		{changed, Rule{ToRedis, Source, false}, Store, OfFile},
		{changed, Rule{ToRedis, Destination, false}, Stay, OfFile},
		{changed, Rule{ToRedis, Stop, false}, Refuse, AsBefore},
		{gone, Rule{ToRedis, Nobody, true}, Stay, OfFileOpen},
		{gone, Rule{ToRedis, Source, true}, Store, OfFile},
		{changed, Rule{ToFiles, Nobody, false}, Stay, AsBefore},
		{changed, Rule{ToFiles, Source, false}, Store, OfRedis},
		{changed, Rule{ToFiles, Destination, false}, Stay, OfRedis},
		{changed, Rule{ToFiles, Stop, false}, Refuse, AsBefore},
		{gone, Rule{ToFiles, Source, false}, Remove, Forgotten},
		{gone, Rule{ToFiles, Destination, false}, Stay, OfRedis},
		{Case{File: Same, Redis: Changed, Open: true}, Rule{ToFiles, Nobody, false}, Stay, AsBefore},
		{Case{File: Same, Redis: Gone, Open: true}, Rule{ToFiles, Nobody, false}, Stay, AsBefore},
	} {
		row, action, memory := tt.rule.Apply(tt.c)
		require.Equal(t, Conflict, row)
		require.Equal(t, []string{actionNames[tt.action], memoryNames[tt.memory]}, []string{actionNames[action], memoryNames[memory]}, "%v %v", tt.c, tt.rule)
	}
	require.Equal(t, Alike, Case{File: Same, Redis: Changed, Alike: true, Open: true}.Row())
	require.Equal(t, FileWrote, Case{File: Same, Redis: Expired, Open: true}.Row())
	require.Equal(t, RedisWrote, Case{File: Gone, Redis: Changed, Open: true}.Row())
}

// What a side has is compared with the base by value, and by the moment of
// expiry in the file; what is gone from Redis has expired if it might, unless
// the file, which did not change, lets it live longer.
func TestCases(t *testing.T) {
	mark := func(text string, expires int64) base.Mark { return base.MarkOf(sha256.Sum256([]byte(text)), expires) }
	has := func(text string) Sight { return Sight{There: true, Mark: mark(text, 0)} }
	lives := func(text string, expires int64) Sight { return Sight{true, mark(text, expires), true} }
	known := func(m base.Mark) *base.Mark { return &m }
	a := mark("a", 0)
	for _, tt := range []struct {
		known       *base.Mark
		file, redis Sight
		fleeting    bool
		want        Case
	}{
		{nil, has("a"), Sight{}, false, Case{New, None, false, false}},
		{nil, Sight{}, has("a"), false, Case{None, New, false, false}},
		{nil, has("a"), has("a"), false, Case{New, New, true, false}},
		{&a, has("a"), has("b"), false, Case{Same, Changed, false, false}},
		{&a, has("b"), has("b"), false, Case{Changed, Changed, true, false}},
		{&a, has("a"), Sight{}, false, Case{Same, Gone, false, false}},
		{&a, has("a"), Sight{}, true, Case{Same, Expired, false, false}},
		{known(a | base.Brief), has("a"), Sight{}, false, Case{Same, Expired, false, false}},
		{known(mark("a", 9) | base.Brief), lives("a", 9), Sight{}, true, Case{Same, Gone, false, false}},
		{known(mark("a", 9) | base.Brief), lives("a", 10_000), Sight{}, true, Case{Changed, Expired, false, false}},
		{known(mark("a", 9)), lives("a", 10_000), has("a"), false, Case{Changed, Same, false, false}},
		{known(mark("a", 9)), lives("b", 10), has("b"), false, Case{Changed, Changed, true, false}},
		{known(a | base.Open), has("a"), has("b"), false, Case{Same, Changed, false, true}},
		{&a, Sight{}, Sight{}, false, Case{Gone, Gone, false, false}},
	} {
		require.Equal(t, tt.want, CaseOf(tt.known, tt.file, tt.redis, tt.fleeting))
	}
}
