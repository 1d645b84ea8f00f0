package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzHeader has the salt in its eight bytes.
func fuzzSalt(header []byte) (uint64, bool) {
	salt := binary.LittleEndian.Uint64(header)
	return salt, salt != 0
}

// log lays out a log of these payloads.
func fuzzLog(payloads ...string) []byte {
	header := []byte("saltsalt")
	enc := NewEncoder(binary.LittleEndian.Uint64(header))
	enc.Header(header)
	for _, p := range payloads {
		start := enc.Begin()
		enc.Buf = append(enc.Buf, p...)
		enc.End(start)
	}
	return enc.Buf
}

// Whatever bytes a log has, the reader ends without a panic, says how far the
// log is good, and returns only records whose checksum is right where they
// stand: what it accepted, encoded again, is the same bytes.
func FuzzReader(f *testing.F) {
	f.Add([]byte{})
	f.Add(fuzzLog())
	f.Add(fuzzLog("a", "bb", "ccc"))
	f.Add(fuzzLog("a", "bb")[:40])
	f.Add(append(fuzzLog("a"), 0, 0, 0, 0))
	f.Add(append(fuzzLog("a"), fuzzLog("a")...))
	f.Fuzz(func(t *testing.T, log []byte) {
		r := NewReader(bytes.NewReader(log), int64(len(log)), 8, fuzzSalt)
		var damage *Damage
		head, err := r.Header()
		if err != nil {
			require.ErrorAs(t, err, &damage)
			require.Zero(t, damage.Offset)
			require.Equal(t, int64(len(log)), damage.Cut)
			return
		}
		require.Equal(t, log[head.Offset:head.Offset+8], head.Payload)
		for {
			at := r.At()
			record, err := r.Next()
			if errors.Is(err, io.EOF) {
				require.Equal(t, int64(len(log)), at)
				return
			}
			if errors.As(err, &damage) {
				require.Equal(t, at, damage.Offset)
				require.Equal(t, int64(len(log)), damage.Offset+damage.Cut)
				if damage.Next == 0 {
					return
				}
				require.Greater(t, damage.Next, damage.Offset)
				r.Skip(damage)
				_, err = r.Next()
				require.NoError(t, err, "Next is the offset of a good record")
				continue
			}
			require.NoError(t, err)
			salt, _ := fuzzSalt(head.Payload)
			unsynced := binary.LittleEndian.Uint32(log[at+8:])
			require.Equal(t, binary.LittleEndian.Uint32(log[at+4:]), sum(record.Payload, at, unsynced, salt))
			require.Equal(t, log[record.Offset:record.Offset+int64(len(record.Payload))], record.Payload)
		}
	})
}
