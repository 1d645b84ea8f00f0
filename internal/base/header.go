package base

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"
)

// Version is that of the headers that this package writes. Those of version 1
// knew files by their times, and had no base.
const Version = 2

// A Header says of which base it is, and which files have been dealt with.
type Header struct {
	Version    int       `json:"version"`
	Generation string    `json:"generation"` // of the chunks; part of their names
	Chunks     int       `json:"chunks"`
	Count      int       `json:"count"` // of entries
	Time       time.Time `json:"time"`
	Host       string    `json:"host"`
	Newest     time.Time `json:"newest"` // the time of the newest of the files
	Contents   Numbers   `json:"contents"`
	Current    Numbers   `json:"current"` // those of the files that the base is of
	Places     Numbers   `json:"places"`
	Home       Numbers   `json:"home"` // the directory of the files that the base is of

	// Of version 1: states of files that were imported.
	Imports []struct {
		State string `json:"state"`
	} `json:"imports,omitempty"`
}

// How much is remembered, oldest first forgotten.
const (
	mostContents = 4096
	mostPlaces   = 2 * 1024
)

// ErrNoHeader is for a text that is none.
var ErrNoHeader = errors.New("it is no header of a base")

// ReadHeader reads what Encode wrote, or a record of version 1. The version
// of what is newer is returned, and nothing else.
func ReadHeader(text []byte) (Header, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil || version.Version < 1 {
		return Header{}, ErrNoHeader
	}
	if version.Version > Version {
		return Header{Version: version.Version}, nil
	}
	var h Header
	if err := json.Unmarshal(text, &h); err != nil || h.Version == Version && (h.Chunks < 1 || h.Generation == "") || len(h.Places)%2 != 0 {
		return Header{}, ErrNoHeader
	}
	return h, nil
}

// Encode returns the text of a header.
func (h Header) Encode() []byte {
	h.Version, h.Imports = Version, nil
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // Nothing in it can fail.
	}
	return text
}

// Exists reports whether there is a base.
func (h Header) Exists() bool { return h.Version == Version }

// Imported reports whether a record of version 1 knows a state of files.
func (h Header) Imported(state string) bool {
	for _, i := range h.Imports {
		if i.State == state {
			return true
		}
	}
	return false
}

// Names returns the ends of the names of the chunks.
func (h Header) Names() []string {
	names := make([]string, h.Chunks)
	for i := range names {
		names[i] = h.Generation + ":" + strconv.Itoa(i)
	}
	return names
}

// HasSeen reports whether files with this content have been dealt with.
func (h Header) HasSeen(content uint64) bool { return slices.Contains(h.Contents, content) }

// IsOlder reports whether files with this content and time are an older copy
// of those that the base is of.
func (h Header) IsOlder(newest time.Time, contents ...uint64) bool {
	seen := false
	for _, c := range contents {
		if slices.Contains(h.Current, c) {
			return false
		}
		seen = seen || h.HasSeen(c)
	}
	return h.Exists() && (seen || newest.Before(h.Newest))
}

// See remembers contents.
func (h *Header) See(contents ...uint64) {
	for _, c := range contents {
		if !h.HasSeen(c) {
			h.Contents = append(slices.Clip(h.Contents), c)
		}
	}
	h.Contents = h.Contents[max(0, len(h.Contents)-mostContents):]
}

// Knows reports whether the files in a place, as a number for its host and
// directory, have been dealt with in this state. It spares reading them.
func (h Header) Knows(place, state uint64) bool {
	at := h.place(place)
	return at >= 0 && h.Places[at+1] == state
}

func (h Header) place(place uint64) int {
	for i := 0; i < len(h.Places); i += 2 {
		if h.Places[i] == place {
			return i
		}
	}
	return -1
}

// Put remembers in which state the files in a place have been dealt with.
func (h *Header) Put(place, state uint64) {
	h.Places = slices.Clone(h.Places)
	if at := h.place(place); at >= 0 {
		h.Places = slices.Delete(h.Places, at, at+2)
	}
	h.Places = append(h.Places, place, state)
	h.Places = h.Places[max(0, len(h.Places)-mostPlaces):]
}

// Numbers are written as one string.
type Numbers []uint64

// MarshalText returns the bytes of the numbers in base64.
func (n Numbers) MarshalText() ([]byte, error) {
	var b []byte
	for _, x := range n {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return []byte(base64.StdEncoding.EncodeToString(b)), nil
}

// UnmarshalText reads what MarshalText wrote.
func (n *Numbers) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(b)%8 != 0 {
		return ErrNoHeader
	}
	*n = nil // And not a list of none, as it was.
	for ; len(b) > 0; b = b[8:] {
		*n = append(*n, binary.LittleEndian.Uint64(b))
	}
	return nil
}
