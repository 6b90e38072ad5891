"""Train a network of deepseg from labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "train the network that finds (detect) or outlines (segment) the cord"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; `stage` is set by the sub-command."""
    parser.add_argument(
        "-data", required=True, metavar="TSV", help="labelled images: columns image contrast reference subject"
    )
    parser.add_argument(
        "-extra", metavar="TSV", help="more labelled images, never held out; rows of held-out people are left out"
    )
    parser.add_argument(
        "-recipe",
        type=Path,
        metavar="TSV",
        help="columns subject image table: learn from just these images of the tables, whatever else these hold",
    )
    parser.add_argument("-masks", metavar="DIR", help="masks without images (*_label-SC_seg), for synthetic slices")
    parser.add_argument(
        "-template", metavar="DIR", help="template (*_t2, *_cord): teaches what lies below the cord's end"
    )
    parser.add_argument("-phantoms", type=int, default=2000, help="synthetic anatomical slices (default 2000)")
    parser.add_argument("-cordless", type=int, default=500, help="synthetic slices without a spine (default 500)")
    parser.add_argument("-kernel", choices=("2d", "3d"), default="2d", help="3d: with neighbouring slices (segment)")
    parser.add_argument("-start", metavar="FILE", help="weights to go on from, such as the 2-D network's for a 3-D one")
    parser.add_argument("-o", required=True, metavar="FILE", help="weights to write (.safetensors)")
    parser.add_argument("-fold", metavar="i/N", help="hold out the people of fold i (0-based) of N")
    parser.add_argument("-exclude", nargs="+", default=[], metavar="SUBJECT", help="people to leave out")
    parser.add_argument(
        "-trust", nargs="+", default=[], metavar="SUBJECT=X", help="references that count less, X from 0 to 1"
    )
    parser.add_argument("-steps", type=int, default=2000, help="batches (default 2000; scores settle after about 1200)")
    parser.add_argument("-minutes", type=float, help="wall time instead of -steps; not exactly repeatable")
    parser.add_argument("-batch", type=int, default=32, help="samples per batch (default 32)")
    parser.add_argument("-rate", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    parser.add_argument("-seed", type=int, default=1, help="of all random draws (default 1)")
    parser.add_argument("-device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("-threads", type=int, help="CPU threads of torch")
    parser.add_argument("-resume", action="store_true", help="go on from the checkpoint beside the output")


def run(args: argparse.Namespace) -> int:
    """Train and write the weights and, beside them, a log (.csv), its curves (.png) and, on the way, a checkpoint."""
    import torch

    from spineseg.training.deepseg.train import Sources, parse_trust, train_network

    if args.threads:
        torch.set_num_threads(args.threads)
    train_network(
        args.stage,
        data=Path(args.data),
        out=Path(args.o),
        sources=Sources(
            extra=Path(args.extra) if args.extra else None,
            masks=Path(args.masks) if args.masks else None,
            template=Path(args.template) if args.template else None,
            n_phantoms=args.phantoms,
            n_cordless=args.cordless,
        ),
        kernel=args.kernel,
        start=Path(args.start) if args.start else None,
        fold=args.fold,
        exclude=args.exclude,
        recipe=args.recipe,
        trust=parse_trust(args.trust),
        settings={
            "steps": args.steps,
            "minutes": args.minutes,
            "batch": args.batch,
            "seed": args.seed,
            "learning_rate": args.rate,
        },
        device=args.device,
        resume=args.resume,
    )
    return 0
