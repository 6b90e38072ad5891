"""The ``spineseg`` command: one module per sub-command, imported only when it is called."""

from __future__ import annotations

import argparse
import atexit
import difflib
import gc
import importlib
import io
import math
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from spineseg.errors import (
    MACHINE_ADVICE,
    InputError,
    MachineError,
    SpinesegError,
    advise,
    find_shortage,
    one_line,
)
from spineseg.extras import advise_extra, advise_installation
from spineseg.memory_limit import keep_freed_memory
from spineseg.methods.registry import OWN_METHODS

COMMANDS = {
    **{name: (f"spineseg.cli.{name}", method.summary) for name, method in OWN_METHODS.items()},
    "centerline": ("spineseg.cli.centerline", "find the centerline of the cord"),
    "study": ("spineseg.cli.study", "a whole study: init, plan, pilot, run, status, report"),
    "dice": ("spineseg.cli.dice", "compare two masks"),
    "csa": ("spineseg.cli.csa", "measure cross-sectional area and shape"),
    "levels": ("spineseg.cli.levels", "turn discs clicked in the quality-control page into labels"),
    "qc": ("spineseg.cli.qc", "make the quality-control page"),
    "phantom": ("spineseg.cli.phantom", "write a dataset of synthetic people"),
    "download": ("spineseg.cli.download", "fetch a public dataset for the tutorial"),
    "train": ("spineseg.cli.train", "train the detector or the networks"),
    "doctor": ("spineseg.cli.doctor", "check the installation"),
    "index": ("spineseg.cli.index", "study: list the images of a dataset"),
    "segment": ("spineseg.cli.segment_chunk", "study: segment a chunk of images with one method"),
    "perturb": ("spineseg.cli.perturb", "study: run a method again on slightly changed images"),
    "measure": ("spineseg.cli.measure", "study: measure and compare the masks of a chunk"),
    "gather": ("spineseg.cli.gather", "study: join the chunks' tables and check every file"),
    "decide": ("spineseg.cli.decide", "study: decide which method the dataset keeps"),
    "lock": ("spineseg.cli.lock", "study: record the method, code and weights that the study must use"),
    "keep": ("spineseg.cli.keep", "study: write the kept masks where other tools look for them"),
    "levels-table": ("spineseg.cli.levels_table", "study: area and shape of the kept masks by vertebral level"),
    "drift": ("spineseg.cli.drift", "study: compare two runs of one study"),
    "checklist": ("spineseg.cli.checklist", "study: write a reporting checklist for a paper"),
    "report": ("spineseg.cli.report", "study: write the report and its figures"),
}
"""Sub-command to module and summary. The summaries stand here so that the overview imports no command."""

LARGEST_INTEGER = 2**31 - 1
"""Upper limit for whole numbers on the command line: the largest label NIfTI can hold, far above any count or seed."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where help is."""
        from spineseg.cli.mistakes import reword

        self.exit(2, f"{self.prog}: error: {one_line(reword(message))} (see {self.prog} -h)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse an option before the sub-command: argparse would take the option's value for the sub-command."""
        from spineseg.cli.mistakes import find_late_command

        if self._subparsers is not None:
            choices = self._subparsers._group_actions[0].choices
            if advice := find_late_command(self.prog, list(args or ()), list(choices or ())):
                self.error(advice)
        return super().parse_known_args(args, namespace)

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        """Refuse values that no option can use: an empty text, NaN or infinity, a whole number beyond the limit."""
        name = "/".join(action.option_strings) or action.dest
        if not arg_string.strip() and arg_string != action.default:  # argparse also parses defaults here
            raise InputError(f"{name}: expected a value, found nothing; is a variable of the shell empty?")
        value = super()._get_value(action, arg_string)  # type: ignore[misc]
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}: expected a finite number, found {arg_string}")
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise InputError(f"{name}: expected at most {LARGEST_INTEGER}, found {arg_string[:12]} ...")
        return value

    def _get_option_tuples(self, option_string: str) -> list:  # noqa: RET503, error() does not return
        """Match options exactly: argparse would read ``-output.txt`` as ``-o utput.txt``."""
        is_value = self._negative_number_matcher.match(option_string) or " " in option_string
        if is_value or self._subparsers is not None:  # the sub-command has its own parser
            return []
        known = difflib.get_close_matches(option_string, self._option_string_actions, n=1)
        hint = f"; did you mean {known[0]}" if known else ""
        if not known and any(action.dest == "extra" for action in self._actions):
            hint = f"; options of Snakemake go after --: {self.prog} -- {option_string}"
        self.error(f"no option {option_string}{hint}")


class ShowVersion(argparse.Action):
    """Print the version. It is looked up only on request because a checkout has to run git for it."""

    def __init__(self, option_strings: list[str], dest: str):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> NoReturn:
        """Print and exit."""
        from spineseg.version import find_version

        print(f"spineseg {find_version()}")
        parser.exit()


GC_THRESHOLD = 100_000
"""Number of new objects that triggers garbage collection. Imports create many objects that stay in memory, so
Python's default of 700 costs a sixth of the start-up time."""


def build_overview() -> CommandParser:
    """Return the parser that shows all commands."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    parser = CommandParser(
        prog="spineseg",
        description="Segment the spinal cord in MRI by two methods and choose one for a study.",
        epilog=f"commands:\n{listing}\n\n'spineseg COMMAND -h' explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="spineseg COMMAND [options]",
    )
    parser.add_argument("--version", action=ShowVersion)
    return parser


def build_parser(command: str) -> CommandParser:
    """Return the parser of one command."""
    module = importlib.import_module(COMMANDS[command][0])
    parser = CommandParser(
        prog=f"spineseg {command}",
        description=module.SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def use_one_blas_thread() -> None:
    """Limit numpy's libraries to one thread; they read these variables when they are first imported.

    The arrays of a cord are small: with two threads propseg takes twice the CPU time and is no
    faster. torch has its own setting, from -threads.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"


def collect_garbage_seldom() -> None:
    """Search for unused objects seldom, and not when Python ends, which takes 0.4 s once torch is loaded."""
    gc.set_threshold(GC_THRESHOLD)
    atexit.unregister(gc.freeze)  # once, however often a program calls `main`
    atexit.register(gc.freeze)


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0 when done, 2 for bad usage or input, 1 for a bug."""
    _prepare_streams()
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in ("help", "version"):  # words that work in git and many other programs
        argv = [*argv[1:2], "-h"] if argv[0] == "help" else ["--version"]
    if not argv or argv[0].startswith("-"):
        from spineseg.cli.mistakes import find_late_command

        overview = build_overview()
        if advice := find_late_command("spineseg", argv, COMMANDS):
            overview.error(advice)
        overview.parse_args(argv)
        overview.print_help()
        return 2
    use_one_blas_thread()
    keep_freed_memory()
    collect_garbage_seldom()
    command, *rest = argv
    if command not in COMMANDS:
        from spineseg.spelling import closest

        known = f"expected one of {', '.join(COMMANDS)}{closest(command, COMMANDS)}"
        _say(f"spineseg: error: no command {command!r}; {known}")
        return 2
    try:
        args = build_parser(command).parse_args(rest)
        args.command_line = f"spineseg {' '.join(argv)}"
        code = args.run(args)
        sys.stdout.flush()  # a full disk is reported here, not when Python ends
        return code
    except SpinesegError as error:
        _say(f"spineseg {command}: error: {error}")
        return 2 if isinstance(error, InputError | MachineError) else 1
    except BrokenPipeError:  # the program that reads our output, such as head, has ended
        _drop_output(sys.stdout)
        return 0
    except Exception as error:  # an error of the machine or the installation; anything else is our bug
        if not (advice := _advise(error)):
            raise
        if isinstance(error, OSError):
            _drop_output(sys.stdout)  # text still in its buffer would fail again when Python exits
        _say(f"spineseg {command}: error: {advice}")
        return 2
    except KeyboardInterrupt:
        return 130  # what shells report for Ctrl-C


def _advise(error: Exception) -> str:
    """Return what to do about an error of the machine or the installation; an empty string for any other error."""
    if shortage := find_shortage(error):
        return str(shortage)
    if isinstance(error, ImportError):
        return advise_extra(error.name) or advise_installation(error)
    if isinstance(error, OSError) and error.errno in MACHINE_ADVICE:
        place = f"{error.filename}: " if error.filename else ""
        return f"{one_line(place)}{error.strerror}; {advise(error)}, and repeat the command"
    return ""


def _say(text: str) -> None:
    """Print an error. If standard error cannot be written either (a full disk), only the exit code reports it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop_output(sys.stderr)


def _prepare_streams() -> None:
    """Make printing safe in any terminal encoding, and replace closed standard streams by the null device.

    Without the replacement a file that is opened later gets the number of the closed stream, and whatever
    libraries print goes into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output(stream: TextIO) -> None:
    """Discard everything that is printed to the stream from now on."""
    with suppress(OSError, ValueError):  # in tests stdout is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
