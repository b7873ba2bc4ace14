package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/internal/awserr"
)

// sweepLimit bounds the deletion of everything.
const sweepLimit = 10 * time.Minute

// cleanAll deletes what killed runs have left, which their journals name.
func (r *testRun) cleanAll(ctx context.Context) error {
	left, err := r.journals()
	if err != nil {
		return err
	}
	if len(left) == 0 {
		r.sayf("Nothing to delete: %s has no journal of account %s\n", r.o.dir, r.account.ID)
	}
	for _, j := range left {
		if j.header.Run == "" {
			if err := j.remove(); err != nil {
				return err
			}
			continue
		}
		r.id, r.journal, r.o.region, r.aws.Region = j.header.Run, j, j.header.Region, j.header.Region
		if err := r.sweep(ctx); err != nil {
			return err
		}
		r.sayf("Deleted everything of run %s\n", j.header.Run)
	}
	return nil
}

// sweep deletes everything of a run until nothing is found twice in a row, since a list of
// IAM may be old. Then it removes the journal and the folder of the programs.
func (r *testRun) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	for quiet := 0; quiet < 2; {
		found, err := r.sweepOnce(ctx)
		quiet++
		if len(found) > 0 || err != nil {
			quiet = 0
		}
		if quiet < 2 && pause(ctx, r.o.settle) != nil {
			return fmt.Errorf("not deleted, try make test-aws CLEAN=1: %v: %w", found, err)
		}
	}
	if err := os.RemoveAll(r.folder()); err != nil {
		return err
	}
	return r.journal.remove()
}

// sweepOnce deletes what it finds and returns it.
func (r *testRun) sweepOnce(ctx context.Context) (found []thing, err error) {
	things := r.journal.list()
	for _, path := range []string{r.path(), r.programPath()} {
		more, err := r.under(ctx, path)
		if err != nil {
			return nil, err
		}
		things = append(things, more...)
	}
	var errs []error
	for i, t := range things {
		if slices.Contains(things[:i], t) {
			continue
		}
		existed, err := r.remove(ctx, t)
		if existed {
			found = append(found, t)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", t.Kind, t.Name, err))
		}
	}
	return found, errors.Join(errs...)
}

// remove deletes a thing, and says whether it existed.
func (r *testRun) remove(ctx context.Context, t thing) (existed bool, err error) {
	switch t.Kind {
	case kindUser:
		return r.removeUser(ctx, t.Name)
	case kindRole:
		return r.removeRole(ctx, t.Name)
	case kindPolicy:
		return r.removePolicy(ctx, t.Name)
	case kindBucket:
		return r.removeBucket(ctx, t.Name)
	}
	return false, fmt.Errorf("unknown kind %q", t.Kind)
}

// steps calls all until one fails for another reason than that its object is gone.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

func isGone(err error) bool {
	code := awserr.ReplyOf(err).Code
	return code == "NoSuchEntity" || code == "NoSuchBucket"
}

// isOurs refuses to delete what is not under the paths of the run.
func (r *testRun) isOurs(path *string) error {
	if p := aws.ToString(path); p != r.path() && p != r.programPath() {
		return fmt.Errorf("is at %s, and so not of this run; it was left alone", p)
	}
	return nil
}

func (r *testRun) removeUser(ctx context.Context, name string) (bool, error) {
	client := r.iam(nil)
	user, err := client.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if err != nil {
		return false, unlessGone(err)
	}
	if err := r.isOurs(user.User.Path); err != nil {
		return true, err
	}
	return true, steps(
		func() error { return deleteKeys(ctx, client, name) },
		func() error { return deleteUserPolicies(ctx, client, name) },
		func() error { return deleteServiceCredentials(ctx, client, name) },
		func() error {
			_, err := client.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name})
			return err
		})
}

func unlessGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

func deleteKeys(ctx context.Context, client *iam.Client, user string) error {
	keys, err := client.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &user})
	if err != nil {
		return err
	}
	for _, k := range keys.AccessKeyMetadata {
		_, err := client.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: k.AccessKeyId})
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

func deleteUserPolicies(ctx context.Context, client *iam.Client, user string) error {
	inline, err := client.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: &user})
	if err != nil {
		return err
	}
	for _, name := range inline.PolicyNames {
		_, err := client.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &user, PolicyName: &name})
		if unlessGone(err) != nil {
			return err
		}
	}
	attached, err := client.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: &user})
	if unimplemented(err) {
		return nil
	} else if err != nil {
		return err
	}
	for _, p := range attached.AttachedPolicies {
		_, err := client.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: &user, PolicyArn: p.PolicyArn})
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

func deleteServiceCredentials(ctx context.Context, client *iam.Client, user string) error {
	out, err := client.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: &user})
	if unimplemented(err) {
		return nil
	} else if err != nil {
		return err
	}
	for i := range out.ServiceSpecificCredentials {
		id := out.ServiceSpecificCredentials[i].ServiceSpecificCredentialId
		_, err := client.DeleteServiceSpecificCredential(ctx, &iam.DeleteServiceSpecificCredentialInput{
			UserName: &user, ServiceSpecificCredentialId: id,
		})
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

func (r *testRun) removeRole(ctx context.Context, name string) (bool, error) {
	client := r.iam(nil)
	role, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if unimplemented(err) {
		return false, nil // and so none was made
	} else if err != nil {
		return false, unlessGone(err)
	}
	if err := r.isOurs(role.Role.Path); err != nil {
		return true, err
	}
	return true, steps(
		func() error { // a run gives a role inline policies only
			inline, err := client.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &name})
			if err != nil {
				return err
			}
			for _, p := range inline.PolicyNames {
				_, err := client.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &p})
				if unlessGone(err) != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			_, err := client.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
			return err
		})
}

func (r *testRun) removePolicy(ctx context.Context, arn string) (bool, error) {
	client := r.iam(nil)
	if !strings.Contains(arn, ":policy"+r.path()) && !strings.Contains(arn, ":policy"+r.programPath()) {
		return false, errors.New("is not of this run; it was left alone")
	}
	if _, err := client.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn}); unimplemented(err) {
		return false, nil // and so none was made
	} else if err != nil {
		return false, unlessGone(err)
	}
	users, err := client.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{
		PolicyArn: &arn, EntityFilter: types.EntityTypeUser, PolicyUsageFilter: types.PolicyUsageTypePermissionsPolicy,
	})
	if err != nil {
		return true, unlessGone(err)
	}
	for _, u := range users.PolicyUsers {
		_, err := client.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: u.UserName, PolicyArn: &arn})
		if unlessGone(err) != nil {
			return true, err
		}
	}
	_, err = client.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
	return true, unlessGone(err)
}

func (r *testRun) removeBucket(ctx context.Context, name string) (bool, error) {
	if name != r.bucketName() {
		return false, errors.New("is not of this run; it was left alone")
	}
	client := r.s3(nil)
	objects := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &name})
	for objects.HasMorePages() {
		out, err := objects.NextPage(ctx)
		if err != nil {
			return !isGone(err), unlessGone(err)
		}
		for i := range out.Contents {
			_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: out.Contents[i].Key})
			if err != nil {
				return true, err
			}
		}
	}
	_, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	return true, unlessGone(err)
}

// folder has the data of the programs of the run.
func (r *testRun) folder() string { return filepath.Join(r.o.dir, r.id) }
