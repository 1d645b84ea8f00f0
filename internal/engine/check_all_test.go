package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
)

// TestCheckAll: a batch that is large enough to be checked on all processors
// is refused for one bad item, wherever it stands, with the id of that item.
func TestCheckAll(t *testing.T) {
	items := make([]Item, 4*perCheck.Count)
	for i := range items {
		items[i] = Item{fmt.Sprint(i), json.RawMessage(`"` + strings.Repeat("x", 1<<10) + `"`), 0}
	}
	bytes, err := CheckAll(List(items...), 1<<20)
	require.NoError(t, err)
	assert.EqualValues(t, len(items)*(1<<10+2), bytes)
	for _, bad := range []int{0, len(items)/2 - 1, len(items) / 2, len(items) - 1} {
		good := items[bad].Value
		items[bad].Value = json.RawMessage(`{`)
		_, err := CheckAll(List(items...), 1<<20)
		require.ErrorIs(t, err, fault.ErrInvalid)
		var with *fault.IDError
		require.ErrorAs(t, err, &with)
		assert.Equal(t, items[bad].ID, with.ID)
		items[bad].Value = good
	}
}
