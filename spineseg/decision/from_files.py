"""Decide from the tables and the configuration of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spineseg import __version__
from spineseg.decision.document import Context, build_decision
from spineseg.decision.evidence import load_evidence, read_rows
from spineseg.decision.params import params_from_config
from spineseg.decision.wording import name_some
from spineseg.errors import InputError
from spineseg.provenance import sha256_json, weights_of

CONFIG_KEYS = ("dataset", "methods", "decision", "override", "weights_sha256")
"""Keys of the configuration that the decision depends on; the hash is over these only."""


def decide_from_files(
    metrics: str | Path,
    agreement: str | Path | None = None,
    *,
    slices: str | Path | None = None,
    table: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Read a pilot's tables and decide.

    Parameters
    ----------
    metrics : path
        metrics.tsv.
    agreement, slices, table : path, optional
        agreement.tsv, slices.tsv.gz, images.tsv.
    config : mapping, optional
        Keys dataset, methods, decision, override, weights_sha256; others are not read. By default the
        methods are those of metrics.tsv, in its order.

    Returns
    -------
    dict
        The content of decision.json.

    Raises
    ------
    InputError
        If a table or a setting cannot be used.
    """
    config = {key: (config or {}).get(key) for key in CONFIG_KEYS}
    params = params_from_config(config["decision"])
    methods = _method_names(config["methods"]) or list(dict.fromkeys(row["method"] for row in read_rows(metrics)))
    if not methods:
        raise InputError(f"{metrics}: expected rows of at least one method, found none")
    evidence = load_evidence(
        metrics,
        methods,
        coverage_limit=params.coverage_limit,
        agreement=agreement,
        slices=slices,
        training_subjects=params.training_subjects,
    )
    weights, mixed = _weights_of_masks(table, methods)
    context = Context(
        dataset=str(config["dataset"] or _folder_name(metrics)),
        override=config["override"],
        versions={"spineseg": __version__, "numpy": version("numpy"), "scipy": version("scipy")},
        weights_sha256=config["weights_sha256"] or weights,
        config_sha256=sha256_json(config),
    )
    decision = build_decision(evidence, params, context)
    decision["excluded"] = _not_included(table) + decision["excluded"]
    decision["notes"] += [
        f"masks by {m} come from several versions, parameters or weights; segment anew" for m in mixed
    ]
    decision["notes"] += _doubted_contrasts(read_rows(metrics))
    return decision


def _doubted_contrasts(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Say which images look like another contrast than they were segmented as."""
    doubted = sorted({row["image_id"] for row in rows if row.get("contrast_doubt")})
    if not doubted:
        return []
    count = "1 image looks" if len(doubted) == 1 else f"{len(doubted)} images look"
    return [
        f"{count} like another contrast than taken for: {name_some(doubted)} (column contrast_doubt of metrics.tsv);"
        " check the config key contrasts, for a method that is told a wrong contrast cannot be judged by it"
    ]


def _weights_of_masks(table: str | Path | None, methods: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Weights by method as the pilot's manifests beside images.tsv name them, else the shipped ones.

    Also returns the methods whose chunks were not all made alike.
    """
    weights: dict[str, Any] = {method: weights_of(method) for method in methods}
    mixed: list[str] = []
    if table is None:
        return weights, mixed
    rows = [row for row in read_rows(table) if row.get("included") == "true" and row.get("pilot") != "false"]
    chunks = sorted({row["chunk"] for row in rows if row.get("chunk")})
    for method in methods:
        paths = [Path(table).parent / "chunks" / method / f"{chunk}.json" for chunk in chunks]
        manifests = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
        found = [m["weights"] for m in manifests if m.get("weights") is not None]
        if found:
            weights[method] = found[0]
        if len({sha256_json([m.get(k) for k in ("version", "parameters_sha256", "weights")]) for m in manifests}) > 1:
            mixed.append(method)
    return weights, mixed


def _folder_name(metrics: str | Path) -> str:
    """Name of the results folder in which the tables lie."""
    folders = [name for name in Path(metrics).resolve().parent.parts if name not in ("tables", "pilot", "study")]
    return folders[-1]


def _method_names(methods: Any) -> list[str]:
    """Names of the configured methods, which may be plain names or mappings with a name."""
    if isinstance(methods, Mapping):
        return [str(name) for name in methods]
    return [str(m["name"]) if isinstance(m, Mapping) and "name" in m else str(m) for m in methods or ()]


def _not_included(table: str | Path | None) -> list[dict[str, str]]:
    """Images of the index that were not segmented, with the reason."""
    if table is None:
        return []
    return [
        {"image_id": row["image_id"], "reason": row.get("reason") or "not included"}
        for row in read_rows(table)
        if row.get("included") == "false"
    ]
