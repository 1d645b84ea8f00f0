package kvmove

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/move"
)

// A report has everything that the work has counted: each of its fields, set
// by itself, arrives under its own name, and there are no others.
func TestMigrateReportIsWhole(t *testing.T) {
	t.Parallel()
	kind := reflect.TypeFor[move.Report]()
	require.Equal(t, kind.NumField(), reflect.TypeFor[Report]().NumField())
	for i := range kind.NumField() {
		var r move.Report
		work := reflect.ValueOf(&r).Elem()
		distinct(t, work.Field(i), new(int))
		face := reflect.ValueOf(migrated(r))
		for j := range kind.NumField() {
			name := kind.Field(j).Name
			got := face.FieldByName(name)
			require.True(t, got.IsValid(), name)
			require.Equal(t, work.Field(j).Convert(got.Type()).Interface(), got.Interface(), name)
		}
	}
}

// So has a report of an import.
func TestImportReportIsWhole(t *testing.T) {
	t.Parallel()
	var r move.ImportReport
	work := reflect.ValueOf(&r).Elem()
	distinct(t, work, new(int))
	face := reflect.ValueOf(imported(r))
	require.Equal(t, work.NumField(), face.NumField())
	for i := range work.NumField() {
		name := work.Type().Field(i).Name
		require.Equal(t, fmt.Sprintf("%+v", work.Field(i).Interface()), fmt.Sprintf("%+v", face.FieldByName(name).Interface()), name)
	}
}

// distinct gives v, and every field of it, a value that is not zero.
func distinct(t *testing.T, v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.String:
		v.SetString(time.Duration(*n).String())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		distinct(t, v.Index(0), n)
	case reflect.Struct:
		for i := range v.NumField() {
			distinct(t, v.Field(i), n)
		}
	default:
		require.Failf(t, "a kind that the test does not set", "%v", v.Type())
	}
}

// What callers choose from and what the work goes by are the same, in order.
func TestMoveChoices(t *testing.T) {
	t.Parallel()
	require.Equal(t, []move.ConflictRule{move.ConflictSkip, move.ConflictOverwrite, move.ConflictFail},
		[]move.ConflictRule{move.ConflictRule(Skip), move.ConflictRule(Overwrite), move.ConflictRule(Fail)})
	require.Equal(t, []move.ImportMode{move.ImportMerge, move.ImportOverwrite, move.ImportReplace, move.ImportIfEmpty},
		[]move.ImportMode{move.ImportMode(Merge), move.ImportMode(MergeOver), move.ImportMode(Replace), move.ImportMode(IfEmpty)})
	require.Equal(t, [...]DifferenceKind{
		move.OnlyInA: "only in a", move.OnlyInB: "only in b", move.OtherValue: "value", move.OtherTTL: "time to live", move.Unreadable: "unreadable",
	}, differenceKinds)
}
