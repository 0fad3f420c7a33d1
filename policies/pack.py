"""The rules as CrossGuard policies."""

from collections.abc import Callable
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)

from policies.inputs import unfolded
from policies.rules import RULES, PolicyRule

NAME = "fedmesh"


def policies() -> list[Policy]:
    """One mandatory policy per rule."""
    return [policy_of(rule) for rule in RULES]


def policy_of(rule: PolicyRule) -> ResourceValidationPolicy:
    """A rule as a policy; what a rule lets users set is the policy's config."""
    strings = {"type": "array", "items": {"type": "string"}}
    schema = {name: {**strings, "default": default} for name, default in rule.config.items()}
    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.description,
        validate=_validation(rule),
        enforcement_level=EnforcementLevel.MANDATORY,
        config_schema=PolicyConfigSchema(properties=schema) if schema else None,
    )


def _validation(rule: PolicyRule) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        config: dict[str, Any] = {**rule.config, **args.get_config()}
        for kind, inputs in unfolded(args.resource_type, args.props):
            for violation in rule.find(kind, inputs, config):
                report(violation, None)

    return validate
