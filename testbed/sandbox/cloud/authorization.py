"""Judges every call to the simulated AWS by action, resource and condition, as IAM does, before it is carried out.

The key id says who calls. `sandbox` is the user who runs Pulumi, with the policy document in $FEDMESH_SANDBOX_POLICY.
A session of a role may do what the role's policies allow.
`pod.<cluster>.<namespace>.<service account>` is a pod: its role comes from its pod identity, and its calls arrive only
while its nodes have a way to AWS. `expired` stands for a session that has ended. Other callers, such as tests that look
at what was made, may do everything.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import ServiceException
from moto.core.parse import XFormedDict
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import ec2_backends
from moto.eks.models import eks_backends
from moto.elbv2.models import elbv2_backends
from moto.iam.access_control import IAMPolicyStatement
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.rds.models import rds_backends

from testbed.sandbox.aws import Aws, Identity
from testbed.sandbox.cloud.accounts import OBSERVER, POD, key_of
from testbed.sandbox.cloud.running import POLICY_FILE
from testbed.sandbox.permissions import IAM_ACTIONS, IAM_NAMES
from testbed.sandbox.reach import UnreachableError, require_way_out

Json = dict[str, Any]
DEPLOYER = "sandbox"
EXPIRED = "expired"


@dataclass(frozen=True)
class Request:
    """What IAM is asked: may this action be done with this resource, given the values of the condition keys."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict[str, str])


class DeniedError(ServiceException):
    """The answer of AWS to a call that no policy allows."""

    code = "AccessDenied"

    def __init__(self, who: str, request: Request) -> None:
        super().__init__(
            "AccessDenied",
            f"User: {who} is not authorized to perform: {request.action} on resource: {request.resource} "
            f"({json.dumps(dict(request.context), sort_keys=True)})",
        )


class ExpiredTokenError(ServiceException):
    """The answer to credentials that were good once."""

    code = "ExpiredToken"

    def __init__(self) -> None:
        super().__init__("ExpiredToken", "The security token included in the request is expired")


class NoWayError(ServiceException):
    """Stands for the time-out of a call without a way to AWS."""

    code = "RequestTimeout"

    def __init__(self, error: UnreachableError) -> None:
        super().__init__("RequestTimeout", str(error))


class Statement(IAMPolicyStatement):
    """moto's statement of a policy, with the condition operators that it lacks."""

    OPERATORS = {  # noqa: RUF012 - a table
        "StringEquals": lambda expected, actual: actual == expected,
        "ArnEquals": lambda expected, actual: fnmatchcase(actual, expected),
        "ArnLike": lambda expected, actual: fnmatchcase(actual, expected),
        "StringLike": lambda expected, actual: fnmatchcase(actual, expected),
    }

    def allows(self, request: Request) -> bool:
        """Whether the statement allows the request. Raises LookupError for an operator that is not known here."""
        statement = self._statement
        if statement["Effect"] != "Allow" or not self._check_element_matches("Action", request.action):
            return False
        if not any(fnmatchcase(request.resource, each) for each in _list(statement["Resource"])):
            return False
        return all(
            self._holds(operator, key, _list(expected), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )

    def _holds(self, operator: str, key: str, expected: Sequence[str], context: Mapping[str, str]) -> bool:
        if operator == "Null":
            return (key not in context) == (str(expected[0]).lower() == "true")
        # a request has one value of each key here: several are several requests, which must all be allowed
        plain = operator.removeprefix("ForAllValues:")
        if plain not in self.OPERATORS:
            raise LookupError(f"the condition operator {operator} is not known to the sandbox")
        if key not in context:
            return plain != operator
        return any(self.OPERATORS[plain](each, context[key]) for each in expected)


def allowed(documents: Sequence[Json], request: Request) -> bool:
    """Whether one of the policy documents, none of which denies anything, allows a request."""
    return any(
        Statement(statement).allows(request)
        for document in documents
        for statement in _list(document["Statement"])
    )


def install() -> None:
    """Makes moto judge every call."""

    def judge(self: Any, resource: str = "*") -> None:  # noqa: ARG001 - the signature of moto
        _judge(self)

    ActionAuthenticatorMixin._authenticate_and_authorize_normal_action = judge
    original = BaseResponse.call_action

    def call_action(self: Any) -> Any:
        try:
            return original(self)
        except (DeniedError, ExpiredTokenError, NoWayError) as error:
            _, headers, body = self.serialized(ActionResult(error))
            headers["status"] = "408" if isinstance(error, NoWayError) else "403"
            return int(headers["status"]), headers, body

    BaseResponse.call_action = call_action


def _judge(response: Any) -> None:
    key = key_of(response)
    if key == EXPIRED:
        raise ExpiredTokenError
    if key == DEPLOYER and os.environ.get(POLICY_FILE):
        document = json.loads(Path(os.environ[POLICY_FILE]).read_text(encoding="utf-8"))
        _require(f"arn:aws:iam::{response.current_account}:user/moto", [[document]], response)
    elif key.startswith(POD):
        cluster, namespace, account = key.removeprefix(POD).split(".")
        try:
            observer = Identity(key=f"{OBSERVER}{response.current_account}")
            require_way_out(Aws(response.region, observer), cluster, response.boto3_service_name)
        except UnreachableError as error:
            raise NoWayError(error) from None
        role = _role_of(response, cluster, namespace, account)
        _require(key, _documents_of(response, role), response)
    elif key in (keys := _iam(response).access_keys):
        role = _iam(response).get_role_by_arn(keys[key].role_arn)
        _require(role.arn, _documents_of(response, role), response)


def _require(who: str, layers: Sequence[Sequence[Json]], response: Any) -> None:
    """Raises DeniedError unless each layer (the policies, a boundary) allows all that a call needs."""
    for request in requests_of(response):
        if request.action == "sts:GetCallerIdentity":
            continue
        if not all(allowed(documents, request) for documents in layers):
            raise DeniedError(who, request)


def _role_of(response: Any, cluster: str, namespace: str, account: str) -> Any:
    found = eks_backends[response.current_account][response.region].clusters.get(cluster)
    identities = found.__dict__.get("_identities", {}).values() if found else ()
    for each in identities:
        if (each["namespace"], each["serviceAccount"]) == (namespace, account):
            return _iam(response).get_role_by_arn(each["roleArn"])
    raise DeniedError(f"{namespace}/{account}", Request("eks-auth:AssumeRoleForPodIdentity", cluster))


def _documents_of(response: Any, role: Any) -> list[list[Json]]:
    """The policies of a role, and its boundary where it has one."""
    own = [json.loads(text) for text in role.policies.values()]
    own += [_document(policy) for policy in role.managed_policies.values()]
    if not role.permissions_boundary_arn:
        return [own]
    return [own, [_document(_iam(response).get_policy(role.permissions_boundary_arn))]]


def _document(policy: Any) -> Json:
    return json.loads(next(each.document for each in policy.versions if each.is_default))


def _iam(response: Any) -> Any:
    return iam_backends[response.current_account][response.partition]


# --- what a call asks of IAM -----------------------------------------------------------------------------------------


def requests_of(response: Any) -> list[Request]:
    """All that IAM is asked for one call: the action itself, tags given at creation, roles handed on."""
    service = str(IAM_NAMES.get(response.boto3_service_name, response.boto3_service_name))
    call = Call(response, service, response._get_action(), _params(response))
    return list(call.requests())


def _params(response: Any) -> Json:
    response._get_action()
    if response.automated_parameter_parsing:
        params = response.params
        # RDS has its parameters in snake case too
        given = params.original_dict() if isinstance(params, XFormedDict) else dict(params)
        return {**given, **response.uri_match}
    try:
        body = json.loads(response.body or "{}")
    except ValueError:
        body = {}
    return {**(body if isinstance(body, dict) else {}), **response.uri_match}


class Call:
    """One call, and what IAM is asked for it (the service authorization reference says what)."""

    def __init__(self, response: Any, service: str, operation: str, params: Json) -> None:
        self._response = response
        self._service = service
        self._operation = operation
        self._params = params
        self._account = response.current_account
        self._region = response.region

    def requests(self) -> Iterator[Request]:
        """The requests, the action itself first."""
        action = f"{self._service}:{self._operation}"
        action = IAM_ACTIONS.get(action, action)
        tags = {f"aws:RequestTag/{key}": value for key, value in self._tags().items()}
        for resource, context in self._resources():
            yield Request(action, resource, {**tags, **context})
        if tags and self._tagging() not in (None, action):
            created = {f"{self._service}:CreateAction": self._operation}
            yield Request(str(self._tagging()), self._created(), {**tags, **created})
        yield from self._handed_on()
        if action == "rds:DeleteDBInstance":
            yield from self._snapshot()

    def _tagging(self) -> str | None:
        """The action that puts tags on what is created."""
        return {
            "ec2": "ec2:CreateTags",
            "elasticloadbalancing": "elasticloadbalancing:AddTags",
            "iam": "iam:TagRole",
            "rds": "rds:AddTagsToResource",
        }.get(self._service, f"{self._service}:TagResource")

    def _tags(self) -> dict[str, str]:
        tagged = self._params.get("DistributionConfigWithTags") or self._params
        given: Any = tagged.get("Tags") or tagged.get("tags") or []
        if self._service == "cloudfront":
            given = dict(given).get("Items", [])
        if self._service == "ec2":
            given = [
                *given,
                *(tag for each in self._params.get("TagSpecifications") or [] for tag in each["Tags"]),
            ]
        if isinstance(given, Mapping):
            return dict(given)
        return {
            str(tag.get("Key", tag.get("TagKey"))): str(tag.get("Value", tag.get("TagValue")))
            for tag in given
        }

    def _created(self) -> str:
        """The ARN of what the call creates."""
        if self._service == "iam":
            return self._role_arn()
        if self._service == "elasticloadbalancing":
            kind = {
                "CreateTargetGroup": "targetgroup/x/1",
                "CreateLoadBalancer": "loadbalancer/net/x/1",
                "CreateListener": "listener/net/x/1/1",
            }
            return self._arn(kind.get(self._operation, "x"))
        if self._service == "ec2":
            specified = self._params.get("TagSpecifications") or [{}]
            return self._arn(f"{specified[0].get('ResourceType', 'x')}/new")
        return self._resources()[0][0]

    def _arn(self, resource: str) -> str:
        return f"arn:aws:{self._service}:{self._region}:{self._account}:{resource}"

    def _resources(self) -> list[tuple[str, Json]]:
        """The resources of the call, each with the condition keys that depend on it."""
        found = {
            "iam": self._in_iam,
            "ec2": self._in_ec2,
            "elasticloadbalancing": self._in_elb,
            "eks": self._in_eks,
            "logs": self._in_logs,
            "kms": self._in_kms,
            "route53": self._in_route53,
            "sts": lambda: [(str(self._params.get("RoleArn")), {})],
            "rds": self._in_rds,
        }.get(self._service)
        return (found() if found else []) or [("*", {})]

    def _in_iam(self) -> list[tuple[str, Json]]:
        if "RoleName" not in self._params:
            return []
        boundary = self._params.get("PermissionsBoundary") or getattr(
            self._role(), "permissions_boundary_arn", None
        )
        context = {"iam:PermissionsBoundary": boundary, "iam:PolicyARN": self._params.get("PolicyArn")}
        return [(self._role_arn(), {key: value for key, value in context.items() if value})]

    def _role(self) -> Any:
        roles = _iam(self._response).roles.values()
        return next((role for role in roles if role.name == self._params["RoleName"]), None)

    def _role_arn(self) -> str:
        role = self._role()
        path = self._params.get("Path") or "/"
        return role.arn if role else f"arn:aws:iam::{self._account}:role{path}{self._params['RoleName']}"

    def _in_eks(self) -> list[tuple[str, Json]]:
        if self._params.get("resourceArn"):
            return [(unquote(str(self._params["resourceArn"])), {})]
        name = self._params.get("name") or self._params.get("clusterName")
        return [(self._arn(f"cluster/{name}"), {})] if name else []

    def _in_logs(self) -> list[tuple[str, Json]]:
        name = self._params.get("logGroupName")
        return [(self._arn(f"log-group:{name}"), {})] if name else []

    def _in_route53(self) -> list[tuple[str, Json]]:
        id_ = str(self._params.get("HostedZoneId") or self._params.get("Id") or "").rsplit("/", 1)[-1]
        if self._operation == "GetChange":
            return [(f"arn:aws:route53:::change/{id_}", {})]
        zone = f"arn:aws:route53:::hostedzone/{id_}"
        changes = (self._params.get("ChangeBatch") or {}).get("Changes") or []
        keys = "route53:ChangeResourceRecordSets"
        return [
            (
                zone,
                {
                    f"{keys}RecordTypes": each["ResourceRecordSet"]["Type"],
                    f"{keys}NormalizedRecordNames": each["ResourceRecordSet"]["Name"].rstrip(".").lower(),
                },
            )
            for each in changes
        ] or ([(zone, {})] if id_ else [])

    def _in_kms(self) -> list[tuple[str, Json]]:
        key = self._params.get("KeyId") or self._params.get("TargetKeyId")
        alias = self._params.get("AliasName")
        found = [(self._arn(str(alias)), {})] if alias else []
        if key:
            id_ = str(key).rsplit("/", 1)[-1]
            tags = kms_backends[self._account][self._region].tagger.get_tag_dict_for_resource(id_)
            found.append((self._arn(f"key/{id_}"), {f"aws:ResourceTag/{k}": v for k, v in tags.items()}))
        return found

    def _in_rds(self) -> list[tuple[str, Json]]:
        """A database's groups are asked for too, and the default option group of a new one."""
        kinds = {
            "DBInstanceIdentifier": "db",
            "DBParameterGroupName": "pg",
            "DBSubnetGroupName": "subgrp",
        }
        named = [
            self._arn(f"{kind}:{self._params[key]}") for key, kind in kinds.items() if key in self._params
        ]
        if self._operation == "CreateDBInstance":
            named.append(self._arn("og:default:x"))
        if "ResourceName" in self._params:
            named = [str(self._params["ResourceName"])]
        return [(each, {}) for each in named]

    def _snapshot(self) -> Iterator[Request]:
        """What IAM is asked for a final snapshot, with the database's tags where it has them."""
        name = self._params.get("FinalDBSnapshotIdentifier")
        database = rds_backends[self._account][self._region].databases.get(
            self._params["DBInstanceIdentifier"]
        )
        if not name or database is None:
            return
        snapshot = self._arn(f"snapshot:{name}")
        yield Request("rds:CreateDBSnapshot", self._resources()[0][0])
        yield Request("rds:CreateDBSnapshot", snapshot)
        if database.copy_tags_to_snapshot:
            yield Request("rds:AddTagsToResource", snapshot)

    def _in_ec2(self) -> list[tuple[str, Json]]:
        if self._operation == "CreateSecurityGroup":
            return [
                (self._arn(f"vpc/{self._params['VpcId']}"), {}),
                (self._arn("security-group/new"), {}),
            ]
        ids = [self._params.get("GroupId"), *(self._params.get("Resources") or [])]
        groups = [each for each in ids if str(each).startswith("sg-")]
        return [(self._arn(f"security-group/{each}"), self._of_group(str(each))) for each in groups]

    def _of_group(self, group_id: str) -> Json:
        ec2 = ec2_backends[self._account][self._region]
        group = ec2.get_security_group_from_id(group_id)
        if group is None:
            return {}
        tags = {f"aws:ResourceTag/{key}": value for key, value in ec2.tags.get(group_id, {}).items()}
        return {**tags, "ec2:Vpc": self._arn(f"vpc/{group.vpc_id}")}

    def _in_elb(self) -> list[tuple[str, Json]]:
        named = [
            v for k, v in self._params.items() if k in ("LoadBalancerArn", "TargetGroupArn", "ListenerArn")
        ]
        arns = [*named, *(self._params.get("ResourceArns") or [])]
        tagging = elbv2_backends[self._account][self._region].tagging_service
        return [
            (
                arn,
                {
                    f"aws:ResourceTag/{key}": str(value)
                    for key, value in tagging.get_tag_dict_for_resource(arn).items()
                },
            )
            for arn in arns
        ]

    def _handed_on(self) -> Iterator[Request]:
        """iam:PassRole for every role that the call hands to a service."""
        services = {
            "CreateCluster": "eks.amazonaws.com",
            "CreateNodegroup": "eks.amazonaws.com",
            "CreateFlowLogs": "vpc-flow-logs.amazonaws.com",
            "CreatePodIdentityAssociation": "pods.eks.amazonaws.com",
            "UpdatePodIdentityAssociation": "pods.eks.amazonaws.com",
            "CreateAddon": "pods.eks.amazonaws.com",
            "UpdateAddon": "pods.eks.amazonaws.com",
        }
        service = services.get(self._operation)
        names = ("roleArn", "nodeRole", "DeliverLogsPermissionArn")
        identities = self._params.get("podIdentityAssociations") or []
        roles = [self._params.get(name) for name in names] + [each.get("roleArn") for each in identities]
        roles.append((self._params.get("computeConfig") or {}).get("nodeRoleArn"))
        for role in filter(None, roles):
            if service:
                yield Request("iam:PassRole", role, {"iam:PassedToService": service})


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
