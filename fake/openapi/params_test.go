package openapi_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

// sample is a value that has a parameter's type.
func sample(q openapi.Param) string {
	switch q.Type {
	case "Boolean":
		return "true"
	case "Integer", "Long", "Float":
		return "10"
	}
	return "x"
}

// concrete is a parameter's name with numbers.
func concrete(name string) string {
	parts := strings.Split(name, ".")
	for n := range parts {
		switch parts[n] {
		case "N":
			parts[n] = "1"
		case "*":
			parts[n] = "Member"
		}
	}
	return strings.Join(parts, ".")
}

// full are all required parameters of an action.
func full(params []openapi.Param) p {
	out := p{}
	for _, q := range params {
		if q.Required && q.Type != "List" && q.Name != "RegionId" {
			out[concrete(q.Name)] = sample(q)
		}
	}
	return out
}

func TestEveryActionIsHeldAgainstItsParameters(t *testing.T) {
	all := openapi.Actions()
	if len(all) != 34 {
		t.Errorf("%d actions: %v", len(all), all)
	}
	c := in(openapi.New(fake.Demo(fake.Instant(), 2), openapi.Config{Explain: true}))
	for _, a := range all {
		product, name, _ := strings.Cut(a, ":")
		t.Run(product+"/"+name, func(t *testing.T) {
			v := p{"Version": map[string]string{"ess": openapi.VersionESS, "ecs": openapi.VersionECS}[product]}
			params := openapi.Params(v["Version"], name)
			if len(params) == 0 {
				t.Fatal("no parameters")
			}
			with := func(more p) p {
				out := full(params)
				for _, m := range []p{v, more} {
					for k, x := range m {
						out[k] = x
					}
				}
				return out
			}
			for _, unknown := range []string{"NoSuchParameter", "InstanceId.x", "InstanceId.0", "instanceId", "Tag.1.NoSuch"} {
				if r := c.refused(t, name, with(p{unknown: "x"}), 400, "InvalidParameter"); !strings.Contains(r.at("Message"), unknown) {
					t.Errorf("%s: %s", unknown, r)
				}
			}
			for _, q := range params {
				one := concrete(q.Name)
				switch {
				case q.Type == "List":
				case q.Required:
					missing := with(p{one: "<none>"})
					if q.Name == "RegionId" {
						missing["RegionId"] = "<none>"
					}
					c.refused(t, name, missing, 400, "MissingParameter")
				case !q.Modelled:
					c.refused(t, name, with(p{one: sample(q)}), 400, "UnsupportedOperation")
				default: // the parameter itself is accepted, whatever the call comes to
					r := c.call(context.Background(), name, with(p{one: sample(q)}))
					if message := r.at("Message"); r.at("Code") == "UnsupportedOperation" && strings.Contains(message, "act on") || strings.Contains(message, "has no parameter") {
						t.Errorf("%s: %s", one, r)
					}
				}
				if q.Type == "Integer" || q.Type == "Boolean" {
					if r := c.refused(t, name, with(p{one: "neither"}), 400, "InvalidParameter"); !strings.Contains(r.at("Message"), "is no "+q.Type) {
						t.Errorf("%s: %s", one, r)
					}
				}
			}
		})
	}
}

func TestUnknownActionsAndVersions(t *testing.T) {
	c := in(openapi.New(fake.Demo(fake.Instant(), 1), openapi.Config{}))
	c.refused(t, "NoSuchAction", nil, 404, "InvalidApi.NotFound")
	c.refused(t, "EnterStandby", p{"Version": openapi.VersionECS}, 404, "InvalidApi.NotFound")
	c.refused(t, "EnterStandby", p{"Version": "2022-02-22"}, 400, "NoSuchVersion")
	c.refused(t, "EnterStandby", p{"Action": "<none>"}, 400, "MissingParameter")
	c.refused(t, "DescribeInstances", p{"Format": "XML"}, 400, "UnsupportedOperation")
	c.refused(t, "DescribeInstances", p{"ClientToken": "x"}, 400, "InvalidParameter")
	c.refused(t, "EnterStandby", ids(p{"ScalingGroupId": "asg-demo", "ClientToken": strings.Repeat("x", 65)}, "i-0001"), 400, "InvalidClientToken.Malformed")
	c.refused(t, "EnterStandby", ids(p{"ScalingGroupId": "asg-demo", "ClientToken": "é"}, "i-0001"), 400, "InvalidClientToken.Malformed")
	c.base = "http://cloud.test/other"
	c.refused(t, "DescribeInstances", nil, 404, "InvalidApi.NotFound")
}
