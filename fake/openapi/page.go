package openapi

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// pages is how an action hands out a list.
type pages struct {
	size, most int // page size by default and at most
	// floor is what smaller values of MaxResults act as; larger ones than most act as most. Zero: both are refused.
	floor int
	// badSize is the code of a refusal.
	badSize string
}

// byNumber cuts the page out of all that PageNumber and PageSize ask for.
func byNumber[T any](c *call, all []T, p pages) (page []T, head obj, err error) {
	from, to, head, err := numbered(c, len(all), p)
	return all[from:to], head, err
}

// numbered says which part of a list of so many PageNumber and PageSize ask for.
func numbered(c *call, total int, p pages) (from, to int, head obj, err error) {
	if p.badSize == "" {
		p.badSize = "InvalidParameter"
	}
	number, size := c.num("PageNumber", 1), c.num("PageSize", p.size)
	if size < 1 || size > p.most {
		return 0, 0, nil, c.refuse(p.badSize, 400, "PageSize %d, 1 to %d are allowed", size, p.most)
	}
	if number < 1 {
		return 0, 0, nil, c.refuse(strings.Replace(p.badSize, "PageSize", "PageNumber", 1), 400, "PageNumber %d", number)
	}
	from = min((number-1)*size, total)
	return from, min(from+size, total), obj{"PageNumber": number, "PageSize": size, "TotalCount": total}, nil
}

// byToken cuts out the page that MaxResults and NextToken ask for, or PageNumber and PageSize where a call gives neither.
func byToken[T any](c *call, all []T, p pages) (page []T, head obj, err error) {
	if c.str("MaxResults") == "" && c.str("NextToken") == "" {
		if page, head, err = byNumber(c, all, p); err == nil {
			head["NextToken"] = ""
		}
		return page, head, err
	}
	size := c.num("MaxResults", p.size)
	switch {
	case p.floor > 0:
		size = min(max(size, p.floor), p.most)
	case size < 1 || size > p.most:
		return nil, nil, c.refuse("InvalidParameter.MaxResults", 400, "MaxResults %d, 1 to %d are allowed", size, p.most)
	}
	from := 0
	if token := c.str("NextToken"); token != "" {
		plain, _ := base64.RawURLEncoding.DecodeString(token)
		var of string
		if n, _ := fmt.Sscanf(string(plain), "%d %s", &from, &of); n != 2 || of != c.query() || from < 1 {
			return nil, nil, c.refuse("InvalidParameter.NextToken", 400, "NextToken %s does not belong to this query", token)
		}
	}
	from = min(from, len(all))
	to := min(from+size, len(all))
	head = obj{"NextToken": "", "MaxResults": size, "PageNumber": 1, "PageSize": size, "TotalCount": len(all)}
	if to < len(all) {
		head["NextToken"] = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", to, c.query()))
	}
	return all[from:to], head, nil
}

// query names what the call asks for, whatever the page.
func (c *call) query() string {
	h := fnv.New64a()
	h.Write([]byte(c.name + c.text(func(k string) bool { return k != "NextToken" && k != "MaxResults" })))
	return fmt.Sprintf("%x", h.Sum64())
}

// with adds a wrapped list to the head of an answer.
func (o obj) with(outer, inner string, items []obj) obj {
	if o == nil { // there is no page but an error
		return nil
	}
	if items == nil {
		items = []obj{}
	}
	o[outer] = obj{inner: items}
	return o
}

// wrap is a wrapped list of texts.
func wrap(inner string, items []string) obj {
	if items == nil {
		items = []string{}
	}
	return obj{inner: items}
}

// each makes an object of every item.
func each[T any](items []T, f func(T) obj) []obj {
	out := make([]obj, len(items))
	for n, item := range items {
		out[n] = f(item)
	}
	return out
}

// minutes and seconds are the two forms of time in answers.
func minutes(t time.Time) string { return stamp(t, "2006-01-02T15:04Z") }
func seconds(t time.Time) string { return stamp(t, "2006-01-02T15:04:05Z") }

func stamp(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}

// tooMany refuses a list that is longer than the action takes.
func (c *call) tooMany(list string, n, most int, code string, status int) error {
	if n <= most {
		return nil
	}
	return c.refuse(code, status, "%d values of %s, at most %d are allowed", n, list, most)
}
