package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

const testHeader = 12

func testSalt(header []byte) (uint64, bool) { return 7, string(header) == "test header " }

// A logged record ends at end.
type logged struct {
	payload string
	end     int64
}

// makeLog writes groups of records, after each of which it syncs.
func makeLog(groups ...[]string) (log []byte, records []logged) {
	e := NewEncoder(7)
	e.Header([]byte("test header "))
	log = bytes.Clone(e.Buf)
	for _, group := range groups {
		e.Reset(int64(len(log)))
		e.Synced = int64(len(log))
		for _, payload := range group {
			start := e.Begin()
			e.Buf = append(e.Buf, payload...)
			e.End(start)
			records = append(records, logged{payload, e.Next()})
		}
		log = append(log, e.Buf...)
	}
	return log, records
}

// readLog returns the good records, and what ended them, nil at the end.
func readLog(log []byte) (payloads []string, err error) {
	r := NewReader(bytes.NewReader(log), int64(len(log)), testHeader, testSalt)
	if _, err := r.Header(); err != nil {
		return nil, err
	}
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return payloads, nil
		}
		if err != nil {
			return payloads, err
		}
		payloads = append(payloads, string(record.Payload))
		if at := record.Offset; string(log[at:at+int64(len(record.Payload))]) != string(record.Payload) {
			return payloads, fmt.Errorf("the offset %d is wrong", at)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	big := string(bytes.Repeat([]byte("0123456789"), windowSize/5))
	log, records := makeLog([]string{"a", "bb"}, []string{"ccc"}, []string{big, "d"}, []string{"e"})
	payloads, err := readLog(log)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "bb", "ccc", big, "d", "e"}, payloads)
	require.Equal(t, int64(len(log)), records[len(records)-1].end)
}

func TestCut(t *testing.T) {
	t.Parallel()
	log, records := makeLog([]string{"a", "bb"}, []string{"ccc"}, []string{"d", "ee"})
	for cut := range log {
		payloads, err := readLog(log[:cut])
		whole, last := 0, int64(8+overhead+testHeader)
		for whole < len(records) && records[whole].end <= int64(cut) {
			last = records[whole].end
			whole++
		}
		require.Len(t, payloads, whole)
		if int64(cut) == last {
			require.NoError(t, err)
			continue
		}
		var damage *Damage
		require.ErrorAs(t, err, &damage)
		require.True(t, damage.Torn, cut)
		if int64(cut) > last {
			require.Equal(t, Damage{Offset: last, Cut: int64(cut) - last, Torn: true, Reason: damage.Reason}, *damage)
		}
	}
}

// TestFlip: what was synced when a later record was written must be good; in
// what was written with the last sync pending, anything may be missing.
func TestFlip(t *testing.T) {
	t.Parallel()
	log, records := makeLog([]string{"a", "bb"}, []string{"ccc"}, []string{"d", "ee", "fff"})
	synced := records[2].end
	for bit := range 8 * len(log) {
		flipped := bytes.Clone(log)
		flipped[bit/8] ^= 1 << (bit % 8)
		payloads, err := readLog(flipped)
		var damage *Damage
		require.ErrorAs(t, err, &damage, bit)
		good := 0
		for records[good].end <= int64(bit/8) {
			good++
		}
		require.Len(t, payloads, good)
		require.Equal(t, int64(bit/8) >= synced, damage.Torn, "byte %d", bit/8)
	}
}

// TestLostSectors: a group that was written but not synced may have any holes.
func TestLostSectors(t *testing.T) {
	t.Parallel()
	log, records := makeLog([]string{"a"}, []string{"bb", "ccc", "dddd"})
	holed := bytes.Clone(log)
	clear(holed[records[0].end:records[1].end])
	payloads, err := readLog(holed)
	var damage *Damage
	require.ErrorAs(t, err, &damage)
	require.True(t, damage.Torn)
	require.Equal(t, []string{"a"}, payloads)
}

func TestForeignRecords(t *testing.T) {
	t.Parallel()
	log, records := makeLog([]string{"same"}, []string{"same"})
	other := NewEncoder(8)
	other.Reset(int64(len(log)))
	start := other.Begin()
	other.Buf = append(other.Buf, "other"...)
	other.End(start)
	for name, tail := range map[string][]byte{
		"of another log":     other.Buf,
		"from another place": log[records[0].end:records[1].end],
		"zeros":              make([]byte, 100),
	} {
		payloads, err := readLog(append(bytes.Clone(log), tail...))
		var damage *Damage
		require.ErrorAs(t, err, &damage, name)
		require.True(t, damage.Torn, name)
		require.Len(t, payloads, 2, name)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	log, _ := makeLog([]string{"a"})
	for name, text := range map[string]string{
		"another version": "kv-log\n\x02" + string(log[8:]),
		"another kind":    string(log[:8+overhead]) + "TEST header " + string(log[8+overhead+testHeader:]),
		"not a log":       "{\n  \"a\": \"" + string(bytes.Repeat([]byte("x"), 100)) + "\"\n}",
	} {
		_, err := readLog([]byte(text))
		var damage *Damage
		require.ErrorAs(t, err, &damage, name)
		require.False(t, damage.Torn, name)
	}
}

// A reader that fails is not a damaged log.
type failing struct{ io.ReaderAt }

func (f failing) ReadAt(p []byte, at int64) (int, error) { return 0, errors.New("EIO") }

func TestReadErrorIsNoDamage(t *testing.T) {
	t.Parallel()
	r := NewReader(failing{}, 1000, testHeader, testSalt)
	_, err := r.Header()
	var damage *Damage
	require.EqualError(t, err, "EIO")
	require.NotErrorAs(t, err, &damage)
}

// TestHugeDistance: how far the last sync is back has 32 bits, and no more is
// claimed than is so.
func TestHugeDistance(t *testing.T) {
	t.Parallel()
	e := NewEncoder(7)
	e.Reset(10 << 30)
	e.Synced = 1 << 30
	start := e.Begin()
	e.Buf = append(e.Buf, "x"...)
	e.End(start)
	r := NewReader(shifted{e.Buf, 10 << 30}, e.Next(), testHeader, testSalt)
	r.seed = 7
	payload, synced, reason, err := r.record(10 << 30)
	require.NoError(t, err)
	require.Empty(t, reason)
	require.Equal(t, "x", string(payload))
	require.LessOrEqual(t, synced, int64(1<<30))
}

type shifted struct {
	b  []byte
	by int64
}

func (s shifted) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(s.b).ReadAt(p, at-s.by)
}

// A long log is a record of text, in which every four bytes are a length that
// the log has room for, one more record, and nothing for a while.
type long struct {
	log  []byte
	size int64
}

func (l long) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if at < int64(len(l.log)) {
		copy(p, l.log[at:])
	}
	return int(min(int64(len(p)), l.size-at)), nil
}

// What is behind a damage is found however long the log is: text read as
// lengths is not followed.
func TestDamageInLongLogs(t *testing.T) {
	t.Parallel()
	text := string(bytes.Repeat([]byte("\n   "), 1<<16))
	for name, size := range map[string]int64{"168 MB": 0x2020200a + 1<<20, "700 MB": 0x3b9aca00} {
		log, records := makeLog([]string{text}, []string{"next"})
		log[100] ^= 1
		r := NewReader(long{log, size}, size, testHeader, testSalt)
		r.Plausible = func(begin []byte, n int64) bool { return n < 1000 || begin[0] == 'x' }
		_, err := r.Header()
		require.NoError(t, err)
		_, err = r.Next()
		var damage *Damage
		require.ErrorAs(t, err, &damage, name)
		require.Equal(t, records[0].end, damage.Next, name)
		require.False(t, damage.Torn, name)
	}
}
