"""The plan of a study: written when the pilot starts, and compared with the settings of a later decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spineseg.decision.params import DecisionParams
from spineseg.provenance import sha256_json
from spineseg.studyfolder.decisions import Plan, find_plan, write_plan
from spineseg.studyfolder.layout import StudyFolder


@dataclass(frozen=True)
class Scope:
    """What the plan says beside the section `decision` of the configuration.

    Parameters
    ----------
    methods : sequence of str
        Methods that are compared.
    reference_kinds : sequence of str, optional
        Kinds of references that count as the truth; None where there is no configuration.
    """

    methods: Sequence[str] = ()
    reference_kinds: Sequence[str] | None = None

    def content(self) -> dict[str, list[str]]:
        """Return what is known, ready for JSON."""
        found = {"methods": list(self.methods)} if self.methods else {}
        return found | ({} if self.reference_kinds is None else {"reference_kinds": sorted(self.reference_kinds)})


NO_SCOPE = Scope()


def fix_plan(folder: StudyFolder, params: DecisionParams, scope: Scope = NO_SCOPE, *, is_started: bool) -> Plan:
    """Write the plan of a study, unless it has one and its first images are segmented.

    Parameters
    ----------
    folder : StudyFolder
    params : DecisionParams
    scope : Scope
    is_started : bool
        Whether any image has been segmented.

    Returns
    -------
    Plan
        The plan that holds from now on.

    Raises
    ------
    InputError
        If the plan's file is damaged.
    """
    earlier = find_plan(folder)
    if is_started and earlier is not None:
        return earlier
    content = params.plan() | scope.content()
    plan = Plan(content, sha256_json(content), before_pilot=not is_started)
    write_plan(folder, plan)
    return plan


def describe_plan(plan: Plan | None, params: DecisionParams, scope: Scope = NO_SCOPE) -> dict[str, Any]:
    """Return the plan in force, its hash, and what has changed since the pilot started.

    Returns
    -------
    dict
        content, sha256, fixed_sha256 (None where no plan was written), changes (list of text).
    """
    content = params.plan() | scope.content()
    found: dict[str, Any] = {"content": content, "sha256": sha256_json(content), "fixed_sha256": None, "changes": []}
    if plan is not None:
        found |= {
            "fixed_sha256": plan.sha256 if plan.before_pilot else None,
            "changes": _changes(plan.content, content),
        }
    return found


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say key by key what differs.

    Methods and kinds of references are compared only if both plans have them: plans of earlier versions may not.
    """
    beside = {"methods", "reference_kinds"}
    names = [name for name in dict.fromkeys([*before, *now]) if name not in beside or (name in before and name in now)]
    return [
        f"{name}: {_in_words(before.get(name))} before, {_in_words(now.get(name))} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _in_words(value: Any) -> str:
    """Write a value of the plan as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_in_words(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]" if value else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
