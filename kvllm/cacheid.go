package kvllm

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
	"unicode"
)

// A Message is one of those that an LLM is asked with, as the Python original
// has it: a dict with these two keys in this order.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A CachedAnswer is a document of the namespace llm_response_cache.
type CachedAnswer struct {
	Return string `json:"return"` // the answer
	Model  string `json:"model"`  // that gave it
}

// CacheID returns the id under which nano-graphrag, and so a Python worker
// beside us, keeps the answer of a model to messages in the namespace
// llm_response_cache: the MD5, in hexadecimal, of Python's
// str((model, messages)).
//
// Which characters Python writes as they are, and not as escapes, depends on
// the version of its Unicode tables. Here it is Unicode 14, that of Python
// 3.11, whatever Go's own is. Text with a character that came later has
// another id in a newer Python, and in an older one text with a character that
// came between: this costs a second call of the model, and no more. Strings are to
// be UTF-8; what is not counts as U+FFFD.
func CacheID(model string, messages []Message) string {
	var b strings.Builder
	b.WriteByte('(')
	writeRepr(&b, model)
	b.WriteString(", [")
	for i, m := range messages {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("{'role': ")
		writeRepr(&b, m.Role)
		b.WriteString(", 'content': ")
		writeRepr(&b, m.Content)
		b.WriteByte('}')
	}
	b.WriteString("])")
	sum := md5.Sum([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

// writeRepr writes Python's repr of a str: in double quotes if the text has
// single quotes and no double ones.
func writeRepr(b *strings.Builder, text string) {
	quote := '\''
	if strings.ContainsRune(text, '\'') && !strings.ContainsRune(text, '"') {
		quote = '"'
	}
	b.WriteRune(quote)
	for _, r := range text {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case isPrintable(r):
			b.WriteRune(r)
		case r < 0x100:
			writeHex(b, `\x`, r, 2)
		case r < 0x10000:
			writeHex(b, `\u`, r, 4)
		default:
			writeHex(b, `\U`, r, 8)
		}
	}
	b.WriteRune(quote)
}

func writeHex(b *strings.Builder, prefix string, r rune, digits int) {
	b.WriteString(prefix)
	for i := digits - 1; i >= 0; i-- {
		b.WriteByte("0123456789abcdef"[r>>(4*i)&0xf])
	}
}

// isPrintable is Python's str.isprintable for one character, in the version of
// Unicode that CacheID is bound to.
func isPrintable(r rune) bool {
	return unicode.IsPrint(r) && (r < 0xcf3 || !unicode.Is(sinceUnicode14, r))
}

// sinceUnicode14 has what Unicode 15.0, that of Go 1.26, has assigned and
// Unicode 14 has not.
var sinceUnicode14 = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0xcf3, 0xcf3, 1},
		{0xece, 0xece, 1},
	},
	R32: []unicode.Range32{
		{0x10efd, 0x10eff, 1},
		{0x1123f, 0x11241, 1},
		{0x11b00, 0x11b09, 1},
		{0x11f00, 0x11f10, 1},
		{0x11f12, 0x11f3a, 1},
		{0x11f3e, 0x11f59, 1},
		{0x1342f, 0x1342f, 1},
		{0x13440, 0x13455, 1},
		{0x1b132, 0x1b132, 1},
		{0x1b155, 0x1b155, 1},
		{0x1d2c0, 0x1d2d3, 1},
		{0x1df25, 0x1df2a, 1},
		{0x1e030, 0x1e06d, 1},
		{0x1e08f, 0x1e08f, 1},
		{0x1e4d0, 0x1e4f9, 1},
		{0x1f6dc, 0x1f6dc, 1},
		{0x1f774, 0x1f776, 1},
		{0x1f77b, 0x1f77f, 1},
		{0x1f7d9, 0x1f7d9, 1},
		{0x1fa75, 0x1fa77, 1},
		{0x1fa87, 0x1fa88, 1},
		{0x1faad, 0x1faaf, 1},
		{0x1fabb, 0x1fabd, 1},
		{0x1fabf, 0x1fabf, 1},
		{0x1face, 0x1facf, 1},
		{0x1fada, 0x1fadb, 1},
		{0x1fae8, 0x1fae8, 1},
		{0x1faf7, 0x1faf8, 1},
		{0x2b739, 0x2b739, 1},
		{0x31350, 0x323af, 1},
	},
}
