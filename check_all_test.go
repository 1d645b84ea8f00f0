package kv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCheckAll: a batch that is large enough to be checked on all processors
// is refused for one bad item, wherever it stands, with the id of that item.
func TestCheckAll(t *testing.T) {
	items := make([]item, 4*perCheck.count)
	for i := range items {
		items[i] = item{fmt.Sprint(i), json.RawMessage(`"` + strings.Repeat("x", 1<<10) + `"`), 0}
	}
	bytes, err := checkAll(itemsOf(items...), 1<<20)
	require.NoError(t, err)
	assert.EqualValues(t, len(items)*(1<<10+2), bytes)
	for _, bad := range []int{0, len(items)/2 - 1, len(items) / 2, len(items) - 1} {
		good := items[bad].value
		items[bad].value = json.RawMessage(`{`)
		_, err := checkAll(itemsOf(items...), 1<<20)
		require.ErrorIs(t, err, ErrInvalid)
		var with *withID
		require.ErrorAs(t, err, &with)
		assert.Equal(t, items[bad].id, with.ID)
		items[bad].value = good
	}
}
