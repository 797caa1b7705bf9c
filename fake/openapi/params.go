package openapi

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// paramsJSON holds the parameters of every action, as the service's published metadata has them: name and type, with "!" where it is
// required. "InstanceId.N" is a repeated parameter, "Tag.N.Key" a member of a repeated structure.
// DescribeUserData, RebootInstance and the TagResources of ESS are not in the metadata that it was made from; they follow the SDK's request structures.
//
//go:embed params.json
var paramsJSON []byte

// specs are the parameters by product and action.
var specs = func() map[string]map[string]map[string]string {
	var all map[string]map[string]map[string]string
	if err := json.Unmarshal(paramsJSON, &all); err != nil {
		panic("openapi: params.json: " + err.Error())
	}
	return all
}()

// A Param is a parameter of an action as the service publishes it.
type Param struct {
	// Name is such as "InstanceId.N" for a repeated parameter, "Tag.N.Key" for a member of a repeated structure.
	Name string
	// Type is String, Integer, Long, Float, Boolean, List (the structure of a list) or Struct.
	Type     string
	Required bool
	// Modelled says that the stand-in acts on it. Otherwise a call that gives it is refused.
	Modelled bool
}

// Params returns the parameters of an action that the stand-in answers, in the order of their names; nil if it does not.
func Params(version, name string) []Param {
	a := actions[version+" "+name]
	if a == nil {
		return nil
	}
	var out []Param
	for p, kind := range specs[a.product][a.name] {
		out = append(out, Param{
			Name: p, Type: strings.TrimSuffix(kind, "!"), Required: strings.HasSuffix(kind, "!"), Modelled: a.models(p),
		})
	}
	slices.SortFunc(out, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// validate holds the parameters against the action's list.
func (c *call) validate() error {
	spec := specs[c.action.product][c.action.name]
	given := make(map[string]bool)
	for name, value := range c.params {
		known, n := lookUp(spec, name)
		if known == "" {
			return c.refuse("InvalidParameter", 400, "%s has no parameter %s", c.name, name)
		}
		kind := strings.TrimSuffix(spec[known], "!")
		if err := c.checkType(name, kind, value); err != nil {
			return err
		}
		if value == "" {
			continue
		}
		if !c.action.models(known) {
			if kind == "Boolean" && strings.EqualFold(value, "false") {
				continue
			}
			return c.refuse("UnsupportedOperation", 400, "the stand-in does not act on parameter %s", name)
		}
		given[known] = true
		if n > 0 {
			list := listOf(known)
			given[list+".N"] = true
			c.addEntry(list, n, strings.TrimPrefix(name, list+"."+strconv.Itoa(n)), value)
		}
	}
	for _, list := range c.lists {
		slices.SortFunc(list, func(a, b entry) int { return a.n - b.n })
	}
	for _, p := range Params(c.version, c.name) {
		switch {
		case !p.Required || given[p.Name] || p.Name == "RegionId" && c.common["RegionId"] != "":
		case strings.Contains(p.Name, ".N."):
			list, field, _ := strings.Cut(p.Name, ".N.")
			for _, e := range c.lists[list] {
				if _, ok := e.fields[field]; !ok {
					return c.refuse("MissingParameter", 400, "%s.%d.%s", list, e.n, field)
				}
			}
		default:
			return c.refuse("MissingParameter", 400, "%s", strings.Replace(p.Name, ".N", ".1", 1))
		}
	}
	return c.checkToken()
}

// addEntry adds a value of a repeated parameter; field is ".Key" for a member of a structure.
func (c *call) addEntry(list string, n int, field, value string) {
	at := slices.IndexFunc(c.lists[list], func(e entry) bool { return e.n == n })
	if at < 0 {
		at = len(c.lists[list])
		c.lists[list] = append(c.lists[list], entry{n: n, fields: make(map[string]string)})
	}
	if field != "" {
		c.lists[list][at].fields[field[1:]] = value
	} else {
		c.lists[list][at].value = value
	}
}

// lookUp finds the entry of spec that a parameter's name belongs to: itself, or with its numbers replaced by N. n is the first of the
// numbers.
func lookUp(spec map[string]string, name string) (known string, n int) {
	parts := strings.Split(name, ".")
	if _, ok := spec[name]; ok && !slices.Contains(parts, "N") {
		return name, 0
	}
	if _, ok := spec[parts[0]+".*"]; ok {
		return parts[0] + ".*", 0
	}
	for at, p := range parts {
		if i, err := strconv.Atoi(p); err == nil && i > 0 && p[0] != '0' && p[0] != '+' {
			if parts[at] = "N"; n == 0 {
				n = i
			}
		}
	}
	if known = strings.Join(parts, "."); n > 0 && spec[known] != "" && !strings.HasPrefix(spec[known], "List") {
		return known, n
	}
	return "", 0
}

// listOf is the repeated parameter that an entry of a list of parameters belongs to: Tag for "Tag.N.Key".
func listOf(known string) string {
	list, _, _ := strings.Cut(known+".", ".N.")
	return strings.TrimSuffix(list, ".")
}

func (c *call) checkType(name, kind, value string) error {
	var err error
	switch kind {
	case "Integer", "Long":
		_, err = strconv.ParseInt(value, 10, 64)
	case "Float":
		_, err = strconv.ParseFloat(value, 64)
	case "Boolean":
		_, err = strconv.ParseBool(strings.ToLower(value))
	}
	if err != nil && value != "" {
		return c.refuse("InvalidParameter", 400, "%s is no %s", name, kind)
	}
	return nil
}

// checkToken refuses a client token that is longer than 64 characters or not ASCII.
func (c *call) checkToken() error {
	token := c.str("ClientToken")
	for _, r := range token {
		if r > 126 || r < 33 {
			return c.refuse("InvalidClientToken.Malformed", 400, "the client token is not ASCII")
		}
	}
	if len(token) > 64 {
		return c.refuse("InvalidClientToken.Malformed", 400, "the client token has %d characters", len(token))
	}
	return nil
}
