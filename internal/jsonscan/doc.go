// Package jsonscan checks, splits and lays out JSON (RFC 8259) as raw bytes.
//
// Nothing here decodes a value and encodes it again: a value goes out with
// the bytes it came in with, so that numbers keep their digits, strings their
// escapes and objects the order and the repetition of their members.
//
// [Check] decides whether a slice is one strict JSON text, and [Reader]
// streams the members of a file that is one large object. The other functions
// work on bytes that have passed one of the two: they do not look for errors
// again, and given anything else they return rubbish, but never panic.
package jsonscan
