"""``spineseg train WHAT``: train the models that the package ships."""

from __future__ import annotations

import argparse
from pathlib import Path

from spineseg.contrasts import CONTRASTS
from spineseg.parameters import output_file

SUMMARY = "train a model from labelled images"

SUMMARIES = {
    "optic": "train the cord detector, which finds the centerline",
    "detect": "train the network that finds the cord",
    "segment": "train the network that outlines the cord",
    "quality": "fit the prediction of a mask's Dice, which flags masks and compares methods without references",
}
"""Model to its line in the help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per model."""
    choices = parser.add_subparsers(dest="stage", required=True, metavar="{" + ",".join(SUMMARIES) + "}")
    add_options = {"optic": _add_optic, "detect": _add_network, "segment": _add_network, "quality": _add_quality}
    for stage, summary in SUMMARIES.items():
        sub = choices.add_parser(stage, help=summary, description=summary)
        text = "table of labelled images: columns image contrast reference subject"
        sub.add_argument("-data", required=True, type=Path, metavar="TSV", help=text)
        text = "table with columns subject image table: learn from these images of the tables only"
        sub.add_argument("-recipe", type=Path, metavar="TSV", help=text)
        add_options[stage](sub)


def run(args: argparse.Namespace) -> int:
    """Train the chosen model."""
    {"optic": _train_optic, "quality": _train_quality}.get(args.stage, _train_network)(args)
    return 0


def _add_exclude(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-exclude", nargs="+", default=[], metavar="SUBJECT", help="people to leave out")


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", type=int, choices=(0, 1, 2), default=1, metavar="0|1|2", help="0: silent; default 1")


def _add_optic(parser: argparse.ArgumentParser) -> None:
    """Add the options of the detector's training."""
    text = "more such tables; an image that an earlier table names is used once"
    parser.add_argument("-extra", nargs="+", default=[], type=Path, metavar="TSV", help=text)
    text = "one more labelled image, such as a template; its slices without mask must hold no cord; repeatable"
    parts = ("IMG", "MASK", "CONTRAST")
    parser.add_argument("-add", nargs=3, action="append", default=[], metavar=parts, help=text)
    parser.add_argument("-c", nargs="+", choices=CONTRASTS, default=list(CONTRASTS), help="contrasts; default all")
    _add_exclude(parser)
    text = "folder for optic_<contrast>.safetensors; default: here"
    parser.add_argument("-ofolder", type=Path, default=Path(), metavar="DIR", help=text)
    parser.add_argument("-seed", type=int, default=0, help="random seed; default 0")
    _add_verbosity(parser)


def _train_optic(args: argparse.Namespace) -> None:
    """Train and write one file per contrast; minutes on one core."""
    from spineseg.training.optic.fit import TrainingParams
    from spineseg.training.optic.train import train_detectors

    files = train_detectors(
        [args.data, *args.extra],
        args.ofolder,
        added=args.add,
        contrasts=args.c,
        exclude=args.exclude,
        recipe=args.recipe,
        params=TrainingParams(seed=args.seed),
        log=print if args.v else lambda line: None,
    )
    if args.v:
        print("wrote " + ", ".join(map(str, files)))


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options of the training of either network of deepseg."""
    text = "table of more labelled images, used for training only; rows of held-out people are left out"
    parser.add_argument("-extra", type=Path, metavar="TSV", help=text)
    text = "folder of masks without images (*_label-SC_seg), for synthetic slices"
    parser.add_argument("-masks", type=Path, metavar="DIR", help=text)
    text = "folder of a template (*_t2, *_cord): shows the network what lies below the end of the cord"
    parser.add_argument("-template", type=Path, metavar="DIR", help=text)
    parser.add_argument("-phantoms", type=int, default=2000, help="synthetic anatomical slices (default 2000)")
    parser.add_argument("-cordless", type=int, default=500, help="synthetic slices without a spine (default 500)")
    parser.add_argument(
        "-kernel", choices=("2d", "3d"), default="2d", help="3d: use neighbouring slices too (segment only)"
    )
    text = "weights to continue from, such as the 2-D network's for a 3-D one"
    parser.add_argument("-start", type=Path, metavar="FILE", help=text)
    parser.add_argument("-o", required=True, type=output_file, metavar="FILE", help="weights to write (.safetensors)")
    parser.add_argument("-fold", metavar="i/N", help="hold out the people of fold i (0-based) of N")
    _add_exclude(parser)
    text = "people whose references count less: weight X from 0 to 1"
    parser.add_argument("-trust", nargs="+", default=[], metavar="SUBJECT=X", help=text)
    parser.add_argument(
        "-steps", type=int, default=2000, help="number of batches (default 2000; scores settle after about 1200)"
    )
    parser.add_argument("-minutes", type=float, help="wall time, in place of -steps; not exactly repeatable")
    parser.add_argument("-batch", type=int, default=32, help="samples per batch (default 32)")
    parser.add_argument("-rate", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    parser.add_argument("-seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument("-device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("-threads", type=int, help="CPU threads of torch")
    parser.add_argument("-resume", action="store_true", help="continue from the checkpoint beside the output")


def _train_network(args: argparse.Namespace) -> None:
    """Train and write the weights; a log (.csv), its curves (.png) and a checkpoint are written beside them."""
    import torch

    from spineseg.training.deepseg.train import Sources, parse_trust, train_network

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = {name: getattr(args, name) for name in ("steps", "minutes", "batch", "seed")}
    train_network(
        args.stage,
        data=args.data,
        out=args.o,
        sources=Sources(args.extra, args.masks, args.template, args.phantoms, args.cordless),
        kernel=args.kernel,
        start=args.start,
        fold=args.fold,
        exclude=args.exclude,
        recipe=args.recipe,
        trust=parse_trust(args.trust),
        settings=settings | {"learning_rate": args.rate},
        device=args.device,
        resume=args.resume,
    )


def _add_quality(parser: argparse.ArgumentParser) -> None:
    """Add the options of the fit of the Dice predictor."""
    text = "folder of deepseg's networks by fold (fold0, fold1, ...), each trained without the people of its fold"
    parser.add_argument("-folds", required=True, type=Path, metavar="DIR", help=text)
    parser.add_argument("-o", required=True, type=output_file, metavar="FILE", help="model to write (.json)")
    text = "synthetic images to learn from; default 30"
    parser.add_argument("-phantoms", type=int, default=30, metavar="N", help=text)
    parser.add_argument(
        "-cases", type=Path, metavar="TSV", help="file that keeps the cases; those still valid are reused"
    )
    parser.add_argument("-seed", type=int, default=1, help="random seed; default 1")
    parser.add_argument("-jobs", type=int, default=1, metavar="N", help="images processed at once; default 1")
    _add_verbosity(parser)


def _train_quality(args: argparse.Namespace) -> None:
    """Fit and write the predictor; some minutes per core."""
    from spineseg.training.quality.train import train_quality

    train_quality(
        args.data,
        args.folds,
        args.o,
        n_phantoms=args.phantoms,
        seed=args.seed,
        recipe=args.recipe,
        jobs=args.jobs,
        cases_file=args.cases,
        log=(lambda line: print(line, flush=True)) if args.v else lambda line: None,
    )
    if args.v:
        print(f"wrote {args.o}")
