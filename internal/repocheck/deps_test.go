package repocheck_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/internal/repocheck"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestDependenciesOfTheRootPackage(t *testing.T) {
	names, all, err := repocheck.Dependencies(root, ".")
	if err != nil {
		t.Fatal(err)
	}
	if bad := repocheck.Forbidden(all); len(bad) > 0 {
		t.Errorf("the root package must not depend on %v", bad)
	}
	golden := filepath.Join(root, "testdata", "deps.txt")
	got := strings.Join(names, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("testdata/deps.txt (-want +got); if it is meant, go test ./internal/repocheck -update:\n%s", diff)
	}
}

func TestForbidden(t *testing.T) {
	got := repocheck.Forbidden([]string{
		"context", "net", "net/http", "net/http/internal", "net/url", "testing", "testing/synctest", "database/sql/driver", "go.etcd.io/bbolt", "testingground",
		"github.com/aliyun/alibaba-cloud-sdk-go/sdk", "github.com/rollingupgrade/rollingupgrade/provider", "github.com/rollingupgrade/rollingupgrade/provider/aliyun",
		"github.com/cenkalti/backoff/v4", "golang.org/x/sync/errgroup",
	})
	want := []string{
		"net/http", "net/http/internal", "testing", "testing/synctest", "database/sql/driver", "go.etcd.io/bbolt",
		"github.com/aliyun/alibaba-cloud-sdk-go/sdk", "github.com/rollingupgrade/rollingupgrade/provider/aliyun",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("forbidden (-want +got):\n%s", diff)
	}
}
