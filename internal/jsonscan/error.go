package jsonscan

import "strconv"

// Error is a violation of the JSON grammar at a byte offset.
type Error struct {
	Offset int64  // of the offending byte, or of the end of the data
	Msg    string // what is wrong; it never quotes the data
}

func (e *Error) Error() string {
	return "invalid JSON at offset " + strconv.FormatInt(e.Offset, 10) + ": " + e.Msg
}

// A code says how scanning ended. Codes instead of errors keep the scanner
// free of allocations when it runs into the end of a window.
type code uint8

const (
	errNone      code = iota
	errEnd            // the data ends too early; more data may mend it
	errCharacter      // a byte no production allows here
	errControl        // a control character in a string
	errEscape         // a backslash before something RFC 8259 does not list
	errNumber         // something that starts like a number and is none
	errLiteral        // something that starts like true, false or null
	errTrailing       // bytes behind the value
	errSurrogate      // half a surrogate pair where a Go string is needed
	errUTF8           // lenient: a string that is not UTF-8
	errNotFinite      // lenient: NaN, Infinity, -Infinity
	errDepth          // lenient: too many open containers
)

var messages = [...]string{
	errEnd:       "unexpected end",
	errCharacter: "unexpected character",
	errControl:   "control character in string",
	errEscape:    "invalid escape in string",
	errNumber:    "invalid number",
	errLiteral:   "invalid literal",
	errTrailing:  "data after the value",
	errSurrogate: "lone surrogate in name",
	errUTF8:      "invalid UTF-8",
	errNotFinite: "NaN or Infinity",
	errDepth:     "nesting deeper than ",
}

// newError returns the error c stands for.
func newError(c code, offset int64, maxDepth int) *Error {
	msg := messages[c]
	if c == errDepth {
		msg += strconv.Itoa(maxDepth)
	}
	return &Error{Offset: offset, Msg: msg}
}
