// Package openapi answers the wire protocol of Alibaba Cloud from a [fake.Cloud]: the RPC calls of Auto Scaling (ESS,
// version 2014-08-28) and ECS (version 2014-05-26) that a rolling upgrade makes. The real SDKs, the vendor's command-line
// client and scripts in any language run against it.
//
//	cloud := fake.Demo(fake.Config{}, 10)
//	handler := openapi.New(cloud, openapi.Config{Secret: "secret"})
//	http.ListenAndServe("127.0.0.1:18090", handler)         // over sockets
//	client := &http.Client{Transport: handler.Transport()}  // or in process, also in a testing/synctest bubble
//
// # What it holds a client to
//
// Requests must be signed (HMAC-SHA1 over query and form, or ACS3-HMAC-SHA256 in the headers), with a fresh time and a nonce that was not seen before.
// Parameters are held against the lists that the service publishes (params.json): one that the action does not have is refused, and
// so is a call that lacks a required one. A parameter that the action has but the stand-in does not act
// on is refused with UnsupportedOperation, rather than ignored. Counts per call, page sizes and NextToken are those that are documented,
// and so are codes and statuses of errors. Client tokens, states that change over time and all refusals are the cloud's own; see package fake.
//
// # What is not documented
//
// Where the real service's behaviour is unverified there is a switch, in [Config] or in [fake.Config]: run tests
// in both positions.
//
// # Faults
//
// Besides [fake.Cloud.Inject], [Handler.Inject] takes faults of the wire: throttling, errors before and after the effect, connections that
// are cut, slow, empty and broken answers.
//
// # Looking
//
// [Handler.Requests] is what came in, [Handler.Mismatches] what a client that keeps its requests apart does not send: lists that look
// as if some of an earlier request was left in them.
package openapi
