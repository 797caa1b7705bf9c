// Package aliyun operates scaling groups of Alibaba Cloud: Auto Scaling (ESS, version 2014-08-28) and ECS (version
// 2014-05-26) through alibaba-cloud-sdk-go. It is the only package of the module that imports the SDK.
//
//	p, err := aliyun.New(aliyun.Config{Region: "cn-hangzhou"})
//	runner, err := rollingupgrade.New(p, store, rollingupgrade.Config{})
//
// A [Provider] implements [provider.Provider], [provider.Inspector] and [provider.ConfigurationSetter]. One Provider serves
// any number of tasks of one account and region, so that its limiter sees all their calls.
//
// # Calls
//
// Calls go over HTTPS, are never repeated by the SDK, and end when their context does. A success that cannot be read, or
// that has no request ID, counts as unknown ([provider.ErrTransient]). Calls are put together up to each action's
// limit. Where one instance refuses a whole call, the states are read: the instance gets the error and
// the others [provider.ErrRefused].
//
// # Rates
//
// Before each call a limiter for its action is asked. It never sleeps: what does not fit is answered with
// [provider.ErrThrottled] and the time to wait ([Error.RetryAfter]). When the service throttles a call the
// rate of its action is halved, and raised again while calls succeed.
//
// # Secrets
//
// Errors hold no request, signature, password or script; scripts and user data travel in the body of
// requests, not in their URL. The SDK itself prints whole requests if the environment variable DEBUG
// contains "sdk": do not set it in production.
//
// # Unverified
//
// Comments that say "unverified" mark behaviour of the service that its documentation does not settle. The page
// docs/aliyun.md has them in one list.
package aliyun
