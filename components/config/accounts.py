"""The AWS account of an EKS cluster: which one, and by whose credentials."""

import re
from collections.abc import Mapping
from typing import Annotated, Self, cast

from pydantic import model_validator

from components.config.errors import ConfigError
from components.config.fields import Matching, Model, refusal, setting

RoleArn = Annotated[
    str,
    Matching(
        "the ARN of an IAM role such as arn:aws:iam::123456789012:role/fedmesh-deployer",
        r"^(arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64})?$",
    ),
]
Profile = Annotated[
    str, Matching("the name of a profile in ~/.aws/config, without spaces", r"^[A-Za-z0-9_+=,.@-]{0,64}$")
]


class AccountSpec(Model):
    """The AWS account of one EKS cluster. Exactly one of `roleArn` and `profile` is set."""

    role_arn: RoleArn = setting(
        "",
        example="arn:aws:iam::123456789012:role/fedmesh-deployer",
        replaces="the network and the cluster",
        since="0.2",
    )
    """The role in that account which is assumed with the credentials at hand."""
    profile: Profile = setting("", example="payments", replaces="the network and the cluster", since="0.2")
    """The profile whose credentials are used, also by the cluster's kubeconfig. A role that asks for an external ID is
    used by a profile with `role_arn` and `external_id`."""

    @model_validator(mode="before")
    @classmethod
    def _no_external_id(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "externalId" in raw:
            raise refusal(
                "can't be had: `aws eks get-token`, which kubeconfigs call, takes none. Set profile, to a profile with "
                "role_arn and external_id in ~/.aws/config",
                "externalId",
            )
        return cast(object, raw)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.role_arn) == bool(self.profile):
            raise refusal("set exactly one of roleArn and profile", "roleArn")
        return self

    @property
    def number(self) -> str:
        """The account's number, "" where only AWS knows it."""
        return self.role_arn.split(":")[4] if self.role_arn else ""

    @property
    def label(self) -> str:
        """What tells the account apart from the stack's others."""
        return self.number or self.profile


def in_account(arn: str, number: str) -> str:
    """The ARN of an IAM policy's namesake in another account."""
    return re.sub(r"::[0-9]{12}:", f"::{number}:", arn)


def check_accounts(numbers: Mapping[str, str], clusters: Mapping[str, str], source: str) -> bool:
    """Checks that every `eks.account` of a stack stands for an account of its own.

    Args:
        numbers: the accounts' numbers by label, as AWS gives them; "" is the label of the credentials at hand.
        clusters: the first cluster of each account by label.
        source: where the stack file has them.

    Raises:
        ConfigError: two of them are one account.
    """
    seen: dict[str, str] = {}
    for label, number in numbers.items():
        if number in seen:
            key = f"fedmesh:clusters[{clusters[label]}].eks.account"
            other = clusters[seen[number]]
            raise ConfigError(
                key, source, f"{number} is the account of {other} too: give both the same account"
            )
        seen[number] = label
    return True
