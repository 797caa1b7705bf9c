package sqlstore

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxKey is the longest ID in bytes, as the columns of MySQL have it.
const maxKey = 512

// key writes an ID as a column keeps it: as it is, but for NUL, backslash and bytes that are not UTF-8, which
// become a backslash and two hexadecimal digits.
func key(id string) string {
	if !strings.ContainsAny(id, "\x00\\") && utf8.ValidString(id) {
		return id
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(id); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(id[i:])
		if r == 0 || r == '\\' || r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\%02x`, id[i])
			continue
		}
		b.WriteString(id[i : i+size])
	}
	return b.String()
}

// unkey is the inverse of key. What key cannot have written stays as it is.
func unkey(k string) string {
	if !strings.Contains(k, `\`) {
		return k
	}
	var b strings.Builder
	for i := 0; i < len(k); i++ {
		if k[i] == '\\' && i+2 < len(k) {
			if c, err := hex.DecodeString(k[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(k[i])
	}
	return b.String()
}

// sql makes a statement out of one that is written with {p} for the prefix and ? for arguments.
func (s *Store) sql(query string) string {
	query = strings.ReplaceAll(query, "{p}", s.prefix)
	if s.dialect != PostgreSQL {
		return query
	}
	var b strings.Builder
	n := 0
	for {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}
