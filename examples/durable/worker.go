package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

const secret = "secret" // of the stand-in

// work creates the task, unless an earlier life of the program has, and drives it to its end. It may die at any line.
func work(ctx context.Context, address, file string, out io.Writer) error {
	cloud, err := aliyun.New(aliyun.Config{
		Region: "cn-hangzhou", Credential: credentials.NewAccessKeyCredential("any", secret),
		Endpoints: aliyun.Endpoints{ESS: "http://" + address, ECS: "http://" + address}, Poll: 100 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	store, err := boltstore.Open(file, boltstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // what was saved is on the disk
	fmt.Fprintln(out, time.Now().UTC().Format("15:04:05"), "the store is open")
	runner, err := ru.New(cloud, store, ru.Config{})
	if err != nil {
		return err
	}
	// The client token makes Create repeatable: a second call with it returns the task that is there.
	task, err := runner.Create(ctx, ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
		Batches: ru.InBatches(3), ClientToken: "release-42",
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx, task.ID) }()
	for e, err := range runner.Watch(ctx, task.ID, seen(ctx, store, task.ID)) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, e.Time.Format("15:04:05"), e.Kind, e.InstanceID, e.To, e.Text)
	}
	return <-done
}

// seen is the number of the last event that is kept, so that a new life shows only what it adds.
func seen(ctx context.Context, store ru.Store, taskID string) int64 {
	h, err := store.Head(ctx, taskID)
	if err != nil {
		return 0
	}
	if h.Version == 1 {
		return 0
	}
	return h.EventSeq
}
