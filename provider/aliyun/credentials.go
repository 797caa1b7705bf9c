package aliyun

import (
	"context"
	"fmt"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A credentialSource hands out credentials. The SDK's providers have no locks, so that those that refresh themselves
// are asked by one call at a time.
type credentialSource struct {
	from  credentials.CredentialsProvider
	fixed bool
	turn  chan struct{} // held while they are asked for
}

func newCredentialSource(c auth.Credential) (credentialSource, error) {
	from, err := auth.ToCredentialsProvider(c)
	if err != nil {
		return credentialSource{}, err
	}
	s := credentialSource{from: from, turn: make(chan struct{}, 1)}
	switch from.(type) {
	case *credentials.StaticAKCredentialsProvider, *credentials.StaticSTSCredentialsProvider, *credentials.BearerTokenCredentialsProvider:
		s.fixed = true
	}
	return s, nil
}

// get returns credentials, or an error when ctx is done: to refresh them may need the network, and the SDK does
// that without a context.
func (s credentialSource) get(ctx context.Context) (*credentials.Credentials, error) {
	if s.fixed {
		return s.from.GetCredentials()
	}
	type result struct {
		c   *credentials.Credentials
		err error
	}
	ch := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("credentials provider panicked: %v", p)
			}
			ch <- r
		}()
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		r.c, r.err = s.from.GetCredentials()
	}()
	select {
	case r := <-ch:
		if r.err == nil && r.c == nil {
			r.err = fmt.Errorf("credentials provider %s has none", s.from.GetProviderName())
		}
		return r.c, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// resolved are credentials for one request.
type resolved struct{ *credentials.Credentials }

func (r resolved) GetCredentials() (*credentials.Credentials, error) { return r.Credentials, nil }
func (r resolved) GetProviderName() string                           { return r.ProviderName }

// credentialError is a request that was not made for want of credentials. Nothing has happened; the
// instance role or token service may answer next time.
func credentialError(action string, err error) error {
	return &Error{Action: action, Code: "Credentials", Message: redact(err.Error()), class: provider.ErrBusy, cause: plain(err)}
}
