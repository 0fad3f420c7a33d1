"""Entry point of the resource plugin `aws`."""

from importlib.metadata import version

from testbed.sandbox.plugin import AwsProvider, serve

if __name__ == "__main__":
    serve(AwsProvider(version("pulumi-aws")))
