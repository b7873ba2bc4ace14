// Package awstest has servers to test against, all on loopback and all ended
// by the one who started them:
//
//   - Gateway is a real S3 and IAM server (versitygw in child processes): keys
//     and policies are enforced. Use it to show that a thing works.
//   - S3 is a scripted one inside the test's own process: it records each
//     request and misbehaves on demand, down to single bytes. Use it to show
//     what happens when a thing does not work.
//   - IAM is an account inside the test's own process: IAM, STS and a small S3
//     that enforces the same keys and policies, with lag and with faults. Use it
//     for what a Gateway has not got: managed policies, permissions boundaries,
//     eventual consistency, lost answers.
//   - FaultProxy stands in front of any address and spoils connections: it
//     refuses, hangs, delays, throttles and cuts.
//
// Pictures makes sample images for all of them.
package awstest
