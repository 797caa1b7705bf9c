package repocheck

import (
	"slices"
	"strings"
)

// Dependencies lists what a package is built from: all packages outside the standard library, and those of the standard
// library that they import themselves. What the standard library is built from differs from one Go version to the next.
func Dependencies(dir, pkg string) (names, all []string, err error) {
	list, err := goList(dir, "-deps", pkg)
	if err != nil {
		return nil, nil, err
	}
	direct := map[string]bool{}
	for _, p := range list {
		all = append(all, p.ImportPath)
		if p.Standard {
			continue
		}
		direct[p.ImportPath] = true
		for _, i := range p.Imports {
			direct[i] = true
		}
	}
	for name := range direct {
		if name != "C" && name != "unsafe" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, all, nil
}

// forbidden is what a library for embedding must not bring along: an SDK, a database driver, a network stack with its
// servers, what is for tests, and the packages of this module that are built on the root package.
var forbidden = []string{
	"database/sql", "net/http", "testing",
	"github.com/aliyun", "github.com/alibabacloud-go", "github.com/go-sql-driver", "github.com/google/go-cmp", "github.com/jackc",
	"github.com/lib/pq", "github.com/mattn", "go.etcd.io", "modernc.org",
	"github.com/rollingupgrade/rollingupgrade/fake", "github.com/rollingupgrade/rollingupgrade/store",
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun",
}

// Forbidden returns the packages that are forbidden, or below one that is.
func Forbidden(all []string) []string {
	var found []string
	for _, name := range all {
		if slices.ContainsFunc(forbidden, func(f string) bool { return name == f || strings.HasPrefix(name, f+"/") }) {
			found = append(found, name)
		}
	}
	return found
}
