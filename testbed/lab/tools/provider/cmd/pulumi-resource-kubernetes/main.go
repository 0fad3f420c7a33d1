// Command pulumi-resource-kubernetes is the official provider at its release's commit, for machines where the release binary can't be fetched.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

// schema.json and terraform-mapping.json are copied from the provider's module by the builder, never committed.
var (
	//go:embed schema.json
	schema []byte
	//go:embed terraform-mapping.json
	terraformMapping []byte
)

func main() { provider.Serve("kubernetes", version.Version, schema, terraformMapping) }
