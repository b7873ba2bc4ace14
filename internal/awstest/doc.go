// Package awstest is the parent of packages with servers to test against, all
// on loopback and each ended by its starter:
//
//   - gateway is a real S3 and IAM server (versitygw in child processes): keys
//     and policies are enforced. Use it to show that a feature works.
//   - minio is a second real S3 server (MinIO in a child process), with sessions whose
//     session policies are enforced.
//   - s3 is a scripted S3 server inside the test's process: it records each
//     request and misbehaves on demand, down to single bytes. Use it to show
//     what happens when something fails.
//   - iam is an AWS account inside the test's process: IAM, STS and a small S3
//     that enforces the same keys and policies, with lag and with faults. Use it
//     for what gateway lacks: managed policies, permissions boundaries, roles and
//     their sessions, web identities, policies of organizations and networks,
//     reasons of denials, regions and versions of buckets, eventual consistency, lost
//     answers. Command cmd/fakeaws runs it as a process of its own.
//   - metadata has the servers from which a process gets the credentials of its role
//     in that account: EC2's instance metadata, ECS, EKS Pod Identity.
//   - postgres is a real PostgreSQL server in a child process, and PgBouncer in front of it.
//   - netfault stands in front of any address and spoils connections.
//   - pipe connects a client with a server in memory, in a bubble of testing/synctest.
//
// Package picture draws sample images for all of them, process starts child
// processes that end with their parent, sdk reads as a user of the AWS SDK does, and
// sigv4 verifies signatures.
package awstest
