"""IAM: what policies allow, and which policies are attached."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from policies.inputs import Config, Inputs, list_of

MANAGED_POLICIES = (
    "arn:*:iam::aws:policy/AmazonEBSCSIDriverPolicyV2",
    "arn:*:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
    "arn:*:iam::aws:policy/AmazonEKSBlockStoragePolicy",
    "arn:*:iam::aws:policy/AmazonEKSClusterPolicy",
    "arn:*:iam::aws:policy/AmazonEKSComputePolicy",
    "arn:*:iam::aws:policy/AmazonEKSLoadBalancingPolicy",
    "arn:*:iam::aws:policy/AmazonEKSNetworkingPolicy",
    "arn:*:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy",
    "arn:*:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "arn:*:iam::aws:policy/AmazonEKS_CNI_Policy",
    "arn:*:iam::aws:policy/AmazonSSMManagedInstanceCore",
)
# These verbs read. Only of services that keep no data of users they may read everything.
LISTING = re.compile(r"^[\w-]+:(Describe|List)[\w*]*$")
READING = re.compile(
    r"^(ec2|eks|elasticloadbalancing|iam|route53|globalaccelerator|autoscaling|cloudwatch|tag):Get[\w*]*$"
)
SECRETS = ("ec2:GetPasswordData", "ec2:GetConsoleOutput")
# Conditions on these keys leave every resource within reach.
WEAK_CONDITIONS = (
    "aws:securetransport",
    "aws:requestedregion",
    "aws:currenttime",
    "aws:multifactorauthpresent",
)


def allowed_actions(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Actions have no wildcards; those that do not only list need resources or a condition; trust names principals."""
    for document in _documents(kind, inputs):
        for statement in list_of(json.loads(document).get("Statement")):
            if statement["Effect"] == "Allow":
                yield from _judged(statement)
    trust = inputs.get("assumeRolePolicy") if kind == "aws:iam/role:Role" else None
    if trust:
        yield from _trusted(trust)


def attached_policies(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Only listed policies are attached: a preview does not show what others allow."""
    if not kind.startswith("aws:iam/"):
        return
    arns = [*list_of(inputs.get("policyArn")), *list_of(inputs.get("policyArns"))]
    arns += list_of(inputs.get("managedPolicyArns"))
    for arn in arns:
        if not any(fnmatchcase(arn, pattern) for pattern in config["managedPolicies"]):
            yield f"attaches {arn}, which is not among the allowed policies"


def _documents(kind: str, inputs: Inputs) -> Iterator[str]:
    if not kind.startswith("aws:iam/"):
        return
    if inputs.get("policy"):
        yield inputs["policy"]
    for each in list_of(inputs.get("inlinePolicies")):
        if each.get("policy"):
            yield each["policy"]


def _judged(statement: Inputs) -> Iterator[str]:
    actions = list_of(statement.get("Action"))
    broad = [action for action in actions if re.search(r"[*?]", action) and not _only_looks(action)]
    if broad or "NotAction" in statement:
        yield f"allows {', '.join(broad) or 'all but some actions'}: name each action"
    acting = [action for action in actions if not _only_looks(action)]
    everything = "NotResource" in statement or any(map(_is_everything, list_of(statement.get("Resource"))))
    if everything and acting and not _limits(statement.get("Condition") or {}):
        yield f"allows {', '.join(acting)} on everything without a condition"


def _only_looks(action: str) -> bool:
    return bool(LISTING.match(action) or (READING.match(action) and not _matches_a_secret(action)))


def _matches_a_secret(action: str) -> bool:
    return any(fnmatchcase(secret, action) for secret in SECRETS)


def _is_everything(resource: str) -> bool:
    """`*`, an ARN whose resource is a wildcard, or all roles, users or policies of an account."""
    if not resource.startswith("arn:"):
        return resource.strip("*") == ""
    parts = resource.split(":", 5)
    name = parts[5] if len(parts) > 5 else "*"
    return name.strip("*/") == "" or (
        parts[2] in ("iam", "*") and re.fullmatch(r"[a-z-]+/\*+", name) is not None
    )


def _limits(condition: Inputs) -> bool:
    return any(
        key.lower() not in WEAK_CONDITIONS and list_of(value) != ["*"]
        for operator in condition.values()
        for key, value in operator.items()
    )


def _trusted(trust: str) -> Iterator[str]:
    for statement in list_of(json.loads(trust).get("Statement")):
        principal = statement.get("Principal")
        names = list_of(principal) if isinstance(principal, str) else list_of((principal or {}).get("AWS"))
        if statement["Effect"] == "Allow" and "*" in names and not _limits(statement.get("Condition") or {}):
            yield "lets every account assume the role: name the principals"
