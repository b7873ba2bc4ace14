// Package plancheck reads the files of a plan (alias/policy) as Terraform and CloudFormation
// do. It is a module of its own, so that HashiCorp's HCL stays out of that of the product.
package plancheck
