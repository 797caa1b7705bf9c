package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
)

// A crowd is what came of many equal tasks at once in one provider.
type crowd struct {
	Makespan, Bound  float64 // seconds
	Slowest, Fastest float64
	Throttled        int64 // answers
	ThrottledLate    int64 // those after the first minute
}

// together plays equal tasks at once, under the rates of the measured world. It must run in a testing/synctest bubble.
func together(ctx context.Context, s scenario, tasks int, seed uint64) (crowd, error) {
	cloud := fake.NewCloud(fake.Config{Latency: latencies, Steps: steps})
	cloud.AddImages(imagesOfTheWorld()...)
	all := draw(s, seed)
	groups := make([]string, tasks)
	for n := range groups {
		groups[n] = fmt.Sprintf("asg-%02d", n)
		addGroup(cloud, groups[n], all)
	}
	served, held := rates()
	var c crowd
	began := time.Now()
	handler := openapi.New(cloud, openapi.Config{NoLog: true, Rates: served, Observe: func(r openapi.Request) {
		if r.Code == "Throttling" {
			atomic.AddInt64(&c.Throttled, 1)
			if time.Since(began) > time.Minute {
				atomic.AddInt64(&c.ThrottledLate, 1)
			}
		}
	}})
	p, err := aliyun.New(aliyun.Config{
		Region: "cn-hangzhou", Credential: credentials.NewAccessKeyCredential("any", "secret"), Transport: handler.Transport(),
		Endpoints: aliyun.Endpoints{ESS: "http://ess.test", ECS: "http://ecs.test"}, Rates: held,
	})
	if err != nil {
		return c, err
	}
	const inFlight = 512
	runner, err := ru.New(p, ru.NewMemoryStore(), ru.Config{Parallel: parallel, ParallelTotal: inFlight, Tasks: tasks})
	if err != nil {
		return c, err
	}
	took, errs := make([]float64, tasks), make([]error, tasks)
	var each sync.WaitGroup
	for n, g := range groups {
		each.Go(func() {
			_, _, errs[n] = s.run(ctx, runner, g)
			took[n] = time.Since(began).Seconds()
		})
	}
	each.Wait()
	for _, err := range errs {
		if err != nil {
			return c, err
		}
	}
	// What all tasks need, as one task with as many instances in each batch.
	merged, sizes := make([]durations, 0, s.N*tasks), make([]int, s.Batches)
	per := s.N / s.Batches
	for b := range sizes {
		sizes[b] = per * tasks
		for range tasks {
			merged = append(merged, all[b*per:(b+1)*per]...)
		}
	}
	c.Makespan, c.Bound = time.Since(began).Seconds(), bound(s, merged, sizes, inFlight).Seconds()
	c.Slowest, c.Fastest = slices.Max(took), slices.Min(took)
	return c, nil
}
