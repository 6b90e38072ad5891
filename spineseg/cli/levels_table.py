"""``spineseg levels-table``: area and shape of a study's kept masks by vertebral level."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import add_folder, study_config, study_folder

SUMMARY = "Measure the kept masks at the vertebral levels that the configuration names, and write the table."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-stage", choices=("all", "study"), default="all", help="default all")


def run(args: argparse.Namespace) -> int:
    """Measure, write the table, and say for how many images each level exists."""
    from collections import Counter

    from spineseg.study.levels import measure_levels
    from spineseg.studyfolder.csa import write_csa, write_sct_tables
    from spineseg.studyfolder.decisions import read_kept
    from spineseg.studyfolder.layout import Stage

    folder, stage, config = study_folder(args), Stage(args.stage), study_config(args)
    rows = measure_levels(folder, stage, config)
    write_csa(folder.csa(stage), rows, config.columns)
    masks = {row.image_id: str(folder.inside(row.mask)) for row in read_kept(folder.kept(stage))}
    write_sct_tables(folder.sct_tables(stage), rows, masks)
    found = Counter(row.level or "whole mask" for row in rows if "unmeasured" not in row.flags)
    print(f"{folder.csa(stage)}: {', '.join(f'{level}: {n} images' for level, n in found.items()) or 'nothing'}")
    for row in rows:
        if row.note:
            print(f"{row.image.image_id}{' ' * bool(row.level)}{row.level}: {row.note}")
    return 0
