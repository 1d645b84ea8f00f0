package jsonscan

// Check reports whether b is exactly one JSON text as RFC 8259 defines it: one
// value, with nothing but white space around it, in valid UTF-8, and with at
// most maxDepth arrays and objects open at a time. A byte order mark is
// refused (section 8.1). Repeated names (section 4) and escapes of lone
// surrogates (section 8.2) are grammatical and pass.
//
// The error is nil or an [*Error].
func Check(b []byte, maxDepth int) error {
	s := scanner{maxDepth: maxDepth}
	i, c := s.value(b, skipSpace(b, 0))
	if c == errNone {
		if i = skipSpace(b, i); i < len(b) {
			c = errTrailing
		}
	}
	if c != errNone {
		return newError(c, int64(i), maxDepth)
	}
	return nil
}

// A scanner scans one value at a time.
type scanner struct {
	maxDepth int

	// A lenient scanner does not stop at what leaves no doubt where the value
	// ends; it notes the first such error in soft and softAt.
	lenient bool
	soft    code
	softAt  int

	// One bit per open container, set for an object. The innermost levels,
	// 64 at most, are in bits, the deepest lowest; full words are put aside
	// in outer. So even a million open brackets take little memory, and the
	// usual handful takes no allocation.
	depth int
	bits  uint64
	outer []uint64
}

// value scans the value that starts at b[i] and returns the position behind
// it or, with an error, the position of the error. It decides on nothing but
// b[:len(b)]: whatever it calls an error other than errEnd remains one, no
// matter what follows.
func (s *scanner) value(b []byte, i int) (int, code) {
	s.soft, s.depth, s.bits, s.outer = errNone, 0, 0, s.outer[:0]
	for {
		if i >= len(b) {
			return len(b), errEnd
		}
		c := errNone
		switch ch := b[i]; ch {
		case '"':
			i, c = s.string(b, i+1)
		case '{', '[':
			if !s.push(ch == '{', i) {
				return i, errDepth
			}
			i = skipSpace(b, i+1)
			// In ASCII, both closing brackets are 2 above their partners.
			if i < len(b) && b[i] == ch+2 {
				break
			}
			if ch == '{' {
				if i, c = s.name(b, i); c != errNone {
					return i, c
				}
			}
			continue
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			i, c = s.number(b, i)
		default:
			i, c = s.literal(b, i)
		}
		if c == errNone {
			i, c = s.next(b, i)
		}
		if c != errNone || s.depth == 0 {
			return i, c
		}
	}
}

// next goes from behind a value to the next value in the containers that are
// open, closing those that end; when it has closed all of them, it stops
// behind the last bracket.
func (s *scanner) next(b []byte, i int) (int, code) {
	for s.depth > 0 {
		i = skipSpace(b, i)
		if i >= len(b) {
			return len(b), errEnd
		}
		object := s.bits&1 != 0
		switch ch := b[i]; {
		case ch == ',':
			i = skipSpace(b, i+1)
			if object {
				return s.name(b, i)
			}
			return i, errNone
		case ch == '}' && object, ch == ']' && !object:
			s.pop()
			i++
		default:
			return i, errCharacter
		}
	}
	return i, errNone
}

// name scans a name and the colon behind it, up to the member's value.
func (s *scanner) name(b []byte, i int) (int, code) {
	if i >= len(b) {
		return len(b), errEnd
	}
	if b[i] != '"' {
		return i, errCharacter
	}
	i, c := s.string(b, i+1)
	if c != errNone {
		return i, c
	}
	return scanColon(b, i)
}

// scanColon goes from behind a name to the member's value.
func scanColon(b []byte, i int) (int, code) {
	i = skipSpace(b, i)
	if i >= len(b) {
		return len(b), errEnd
	}
	if b[i] != ':' {
		return i, errCharacter
	}
	return skipSpace(b, i+1), errNone
}

// string scans the rest of a string, from behind its opening quotation mark.
func (s *scanner) string(b []byte, i int) (int, code) {
	i, c := scanString(b, i)
	for c == errUTF8 && s.tolerate(c, i) {
		i, c = scanString(b, i+1)
	}
	return i, c
}

// number scans a number (RFC 8259, section 6) or -Infinity.
func (s *scanner) number(b []byte, i int) (int, code) {
	start := i
	if b[i] == '-' {
		i++
		if i < len(b) && b[i] == 'I' {
			return s.notFinite(b, start, "-Infinity")
		}
	}
	first := i
	i, c := scanDigits(b, i)
	if c != errNone {
		return i, c
	}
	if b[first] == '0' && i-first > 1 {
		return first, errNumber
	}
	if i < len(b) && b[i] == '.' {
		if i, c = scanDigits(b, i+1); c != errNone {
			return i, c
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return scanDigits(b, i)
	}
	return i, errNone
}

// scanDigits scans one digit or more.
func scanDigits(b []byte, i int) (int, code) {
	start := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i > start {
		return i, errNone
	}
	if i >= len(b) {
		return len(b), errEnd
	}
	return i, errNumber
}

// literal scans one of the literal names (RFC 8259, section 3), or one of the
// two that Python adds.
func (s *scanner) literal(b []byte, i int) (int, code) {
	switch b[i] {
	case 't':
		return scanWord(b, i, "true")
	case 'f':
		return scanWord(b, i, "false")
	case 'n':
		return scanWord(b, i, "null")
	case 'N':
		return s.notFinite(b, i, "NaN")
	case 'I':
		return s.notFinite(b, i, "Infinity")
	}
	return i, errCharacter
}

// notFinite scans a number that Python writes and JSON does not have.
func (s *scanner) notFinite(b []byte, i int, word string) (int, code) {
	end, c := scanWord(b, i, word)
	if c == errNone && !s.tolerate(errNotFinite, i) {
		return i, errNotFinite
	}
	return end, c
}

func scanWord(b []byte, i int, word string) (int, code) {
	n := min(len(word), len(b)-i)
	if string(b[i:i+n]) != word[:n] {
		return i, errLiteral
	}
	if n < len(word) {
		return len(b), errEnd
	}
	return i + n, errNone
}

// push opens a container whose bracket is at i.
func (s *scanner) push(object bool, i int) bool {
	if s.depth >= s.maxDepth && !s.tolerate(errDepth, i) {
		return false
	}
	if s.depth > 0 && s.depth%64 == 0 {
		s.outer = append(s.outer, s.bits)
	}
	s.bits <<= 1
	if object {
		s.bits |= 1
	}
	s.depth++
	return true
}

// pop closes the innermost container.
func (s *scanner) pop() {
	s.bits >>= 1
	s.depth--
	if s.depth > 0 && s.depth%64 == 0 {
		last := len(s.outer) - 1
		s.bits, s.outer = s.outer[last], s.outer[:last]
	}
}

// tolerate notes an error that a lenient scanner can live with, and reports
// whether this one is lenient.
func (s *scanner) tolerate(c code, i int) bool {
	if s.lenient && s.soft == errNone {
		s.soft, s.softAt = c, i
	}
	return s.lenient
}

// isSpace reports whether c is white space (RFC 8259, section 2).
func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// skipSpace returns the index of the first byte of b at or after i that is not
// white space, or len(b).
func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}
