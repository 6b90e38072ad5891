"""``spineseg levels-table``: area and shape of a study's masks by vertebral level."""

from __future__ import annotations

import argparse

from spineseg.cli.study_folder import STAGES, add_folder, study_config, study_folder

SUMMARY = "Measure a study's masks at the vertebral levels that the configuration names, and write the table."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_folder(parser)
    parser.add_argument("-stage", choices=STAGES, default="all", help="default all")
    parser.add_argument(
        "-methods",
        action="store_true",
        help="measure the masks of every method and write levels.tsv; default: the kept masks only",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write the table, and print the number of masks per level."""
    from collections import Counter

    from spineseg.study.change import measure_change, read_session_times
    from spineseg.study.levels import measure_levels, measure_method_levels, measure_other_levels
    from spineseg.studyfolder.change import write_change
    from spineseg.studyfolder.csa import write_csa, write_sct_tables
    from spineseg.studyfolder.decisions import read_kept
    from spineseg.studyfolder.layout import Stage

    folder, stage, config = study_folder(args), Stage(args.stage), study_config(args)
    if args.methods:
        path, rows = folder.levels(stage), measure_method_levels(folder, stage, config)
    else:
        path, rows = folder.csa(stage), measure_levels(folder, stage, config)
        masks = {row.image_id: str(folder.inside(row.mask)) for row in read_kept(folder.kept(stage))}
        write_sct_tables(folder.sct_tables(stage), rows, masks)
        if stage is Stage.STUDY:  # no other step measures levels there
            write_csa(folder.levels(stage), [*rows, *measure_other_levels(folder, stage, config, rows)], config.columns)
        if config.follow_up:
            times = read_session_times(config.bids_dir or ".")
            write_change(folder.change(stage), measure_change(rows, config.follow_up, times))
    write_csa(path, rows, config.columns)
    found = Counter(row.level or "whole mask" for row in rows if "unmeasured" not in row.flags)
    print(f"{path}: {', '.join(f'{level}: {n} masks' for level, n in found.items()) or 'nothing'}")
    for row in rows:
        if row.note:
            print(f"{row.image.image_id}{' ' * bool(row.level)}{row.level}: {row.note}")
    return 0
