"""IAM: what policies allow, and which policies are attached."""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from policies.inputs import Config, Inputs, is_world, list_of

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
# Only these operators ask for something: others exclude a little, or hold where the key is absent (`ForAllValues:`,
# `…IfExists`, `Null`).
LIMITING = re.compile(
    r"(foranyvalue:)?(stringequals|stringequalsignorecase|stringlike|arnequals|arnlike|ipaddress|bool)"
)
# Conditions on these keys leave every resource within reach.
WEAK_CONDITIONS = re.compile(
    r"aws:(securetransport|requestedregion|currenttime|epochtime|tokenissuetime|multifactorauth\w+|sourceip|useragent"
    r"|referer)"
)
# These describe who has the right, and so limit a trust policy alone.
ABOUT_CALLERS = re.compile(r"aws:(principal.*|userid|username)")
# ARNs of these services begin with a name where others have the kind of the resource.
WITHOUT_KINDS = ("codecommit", "execute-api", "s3", "sns", "sqs")
OF_AN_ACCOUNT = re.compile(r"arn:[^:]*:[^:]*:[^:]*:\d{12}:")
# Words inside an ARN that name a kind of resource, and none of them.
KINDS_IN_ARNS = ("app", "gwy", "index", "log-stream", "net", "stream")


def allowed_actions(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Actions have no wildcards; those that do not only list need resources or a condition; trust names principals."""
    for document in _documents(kind, inputs):
        for statement in _statements(document):
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


def _statements(document: Any) -> list[Inputs]:
    parsed = cast(Inputs, document) if isinstance(document, Mapping) else json.loads(document)
    return list_of(parsed.get("Statement"))


def _documents(kind: str, inputs: Inputs) -> Iterator[Any]:
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
    if everything and acting and not _limits(statement, WEAK_CONDITIONS, ABOUT_CALLERS):
        yield f"allows {', '.join(acting)} on everything without a condition"


def _only_looks(action: str) -> bool:
    return bool(LISTING.match(action) or (READING.match(action) and not _matches_a_secret(action)))


def _matches_a_secret(action: str) -> bool:
    return any(fnmatchcase(secret, action) for secret in SECRETS)


def _is_everything(resource: str) -> bool:
    """`*`, or an ARN that names nothing but a kind of resources, such as `key/*` or `secret:*`."""
    if not resource.startswith("arn:"):
        return resource.strip("*?") == ""
    parts = resource.split(":", 5)
    if len(parts) < 6 or not parts[5].strip("*?/:"):
        return True
    kind, *names = re.split("[/:]", parts[5])
    if parts[2] in WITHOUT_KINDS:
        return not kind.strip("*?") and not any(map(_names, names))
    return not any(map(_names, names)) if names else "*" in kind


def _names(part: str) -> bool:
    return part not in KINDS_IN_ARNS and part.strip("*?-") != ""


def _limits(statement: Inputs, *weak: re.Pattern[str]) -> bool:
    """Whether one of a statement's conditions, all of which must hold, asks for certain values of a key that counts."""
    return any(
        LIMITING.fullmatch(operator.lower())
        and not any(each.fullmatch(key.lower()) for each in weak)
        and _asks(operator.lower(), list_of(value))
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, value in keys.items()
    )


def _asks(operator: str, values: list[Any]) -> bool:
    if "ipaddress" in operator:
        return bool(values) and not is_world([str(each) for each in values])
    if "bool" in operator:
        return [str(each).lower() for each in values] == ["true"]
    return bool(values) and not any(_is_everything(str(each)) for each in values if not _has_account(each))


def _has_account(value: Any) -> bool:
    return OF_AN_ACCOUNT.match(str(value)) is not None


def _trusted(trust: Any) -> Iterator[str]:
    for statement in _statements(trust):
        principal = statement.get("Principal")
        names = list_of(principal) if isinstance(principal, str) else list_of((principal or {}).get("AWS"))
        everybody = "*" in names or "NotPrincipal" in statement
        if statement["Effect"] == "Allow" and everybody and not _limits(statement, WEAK_CONDITIONS):
            yield "lets every account assume the role: name the principals"
