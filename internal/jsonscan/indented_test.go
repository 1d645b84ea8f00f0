package jsonscan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIndentedSize(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`1`, ` "a b" `, `{}`, `[ ]`, `[[],{}]`, `{"a":[1,2,{"b":null}],"c": "\"[,"}`, `[[[[1,[2]],3]],{"x":{"y":[[]]}}]`,
	} {
		require.Equal(t, int64(len(AppendIndent(nil, []byte(text), "  "))), IndentedSize([]byte(text), "  "), text)
	}
}
