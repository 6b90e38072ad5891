"""Methods that a study's configuration declares: ours, ours with other options, existing masks, programs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from spineseg.code_digest import digest_code
from spineseg.errors import InputError
from spineseg.methods.placeholders import (
    COMMAND_NAMES,
    IMAGE_NAMES,
    check_command,
    fill_path,
    image_names,
    placeholders,
)
from spineseg.methods.protocol import Method, PreparedOwnMethod
from spineseg.methods.registry import OWN_METHODS, own_method
from spineseg.parameters import params_from_options
from spineseg.spelling import closest
from spineseg.studyfolder.images import StudyImage
from spineseg.studyfolder.layout import RESERVED_FOLDERS
from spineseg.studyfolder.sidecars import MadeBy
from spineseg.version import find_version

RESERVED = ("equivalent", "reference", "none", "same", "both-bad", *RESERVED_FOLDERS)
"""Names with another meaning in tables, on pages, as a rater's answer or among the folders of a study."""

MANUAL = "manual"
"""Name of the method that stands for the dataset's own masks, in studies that use them."""

TIMEOUT_MIN = 30.0
"""Default time limit of a program, minutes per image: ten times that of the slowest program known."""

FILE_STEP = "spineseg.methods.segment_file"
"""Module that every method's images pass through; it counts as part of each method's code."""


LIBRARIES = ("numpy", "scipy", "nibabel", "torch")
"""Numerical libraries: another version may change the last digits of a result."""


def installed_libraries() -> dict[str, str]:
    """Return the versions of the numerical libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # torch may be absent if only propseg is used
            continue
    return found


def _make_made_by(code: str, params: Any, weights: Mapping[str, str]) -> MadeBy:
    """Return the record of what makes the masks; `params`, a dataclass or a dict, is reduced to JSON types."""
    plain = json.loads(json.dumps(params if isinstance(params, Mapping) else asdict(params)))
    return MadeBy(find_version(), code, plain, dict(weights), installed_libraries())


@dataclass(frozen=True)
class DeclaredMethod:
    """One method of a study.

    Parameters
    ----------
    name : str
        Name in tables, file names and pages.
    kind : str
        ``propseg`` or ``deepseg``, ``files`` or ``command``.
    template : str
        Path of existing masks, or the command.
    options : dict
        Options of our own methods: flags of the command line without the dash, and their values.
    timeout_min : float, minutes
        Time limit of a command per image.
    version : str
        Version of the program that made the masks, as the user states it.
    roots : tuple of str
        Folders in which existing masks are looked for.
    label : int or None
        Label of the cord, if existing masks or a program's masks have several labels.
    """

    name: str
    kind: str
    template: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout_min: float = TIMEOUT_MIN
    version: str = ""
    roots: tuple[str, ...] = ()
    label: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is one of our own methods."""
        return self.kind in OWN_METHODS

    @property
    def weights(self) -> str | None:
        """The user's own weights or detector; None for the shipped ones."""
        value = self.options.get(OWN_METHODS[self.kind].weights_option) if self.is_own else None
        return str(value) if value else None

    def params(self) -> Any:
        """Return the parameters that the options of one of our methods ask for.

        Raises
        ------
        InputError
            If an option is unknown or its value cannot be used.
        """
        own = own_method(self.kind)
        options = {key: value for key, value in self.options.items() if key != own.weights_option}
        try:
            return params_from_options(own.params_class(), options)
        except InputError as error:
            raise InputError(f"{self.kind}: {error}") from error

    def made_by(self, params: Any = None) -> MadeBy:
        """Return the code, parameters and weights that would make the method's masks now.

        Raises
        ------
        InputError
            If options or weights cannot be used.
        """
        if self.is_own:
            own = own_method(self.kind)
            params = self.params() if params is None else params
            code = digest_code(FILE_STEP, own.adapter)
            return _make_made_by(code, params, own.hash_weights(self.weights))
        parameters: dict[str, Any] = {self.kind: self.template}
        if self.version:
            parameters["version"] = self.version
        if self.label is not None:
            parameters["label"] = self.label
        return _make_made_by(digest_code(FILE_STEP, "spineseg.methods.external"), parameters, {})

    def find_masks(self, image: StudyImage) -> list[str]:
        """Return the existing mask of an image as a list of one path; empty if there is none or the kind is another."""
        if self.kind != "files":
            return []
        path = fill_path(self.template, image_names(image))
        return [str(Path(root) / path) for root in self.roots if (Path(root) / path).is_file()][:1]

    def prepare(self, *, device: str = "auto", threads: int = 1, params: Any = None) -> Method:
        """Make the method ready for images.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda"}
            Where to compute, for methods that have a choice.
        threads : int
            CPU threads that the method may use.
        params : optional
            Parameters of one of our methods, which replace those from `options`.

        Raises
        ------
        InputError
            If its options or weights cannot be used.
        """
        from spineseg.methods.external import ExistingMasks, Program

        made_by = self.made_by(params)
        if self.is_own:
            adapter = own_method(self.kind).load_adapter()
            kernel, device = adapter.prepare(self.params() if params is None else params, self.weights, device, threads)
            return PreparedOwnMethod(self.name, made_by, kernel, device, threads)
        if self.kind == "files":
            return ExistingMasks(
                self.name, made_by, self.version, self.template, tuple(map(Path, self.roots)), self.label
            )
        return Program(self.name, made_by, self.version, self.template, self.timeout_min, threads, self.label)


def manual_masks(label: int | None = None) -> DeclaredMethod:
    """Return the method that uses the dataset's own masks; `label` is the label of the cord, if they have several."""
    return DeclaredMethod(MANUAL, "files", template="{reference}", roots=(".",), label=label)


def declared_methods(items: Sequence[str | Mapping[str, Any]], roots: Sequence[str]) -> dict[str, DeclaredMethod]:
    """Return the methods that a configuration lists, by name, in its order.

    Parameters
    ----------
    items : sequence
        The config key ``methods``, as the schema allows it.
    roots : sequence of str
        Folders in which existing masks are looked for.

    Raises
    ------
    InputError
        If two methods have one name, a name is reserved, an item is neither one of our methods nor files nor a
        command, or a placeholder is unknown. The message is one line and names the key.
    """
    methods: dict[str, DeclaredMethod] = {}
    for position, item in enumerate(items):
        method = _declare(item, f"config key 'methods.{position}", tuple(roots))
        if method.name.lower() in map(str.lower, methods):
            raise InputError(f"config key 'methods.{position}': a second method is named {method.name}; rename one")
        methods[method.name] = method
    return methods


def _declare(item: str | Mapping[str, Any], where: str, roots: tuple[str, ...]) -> DeclaredMethod:
    """Read one item of the list of methods."""
    item = {"name": item} if isinstance(item, str) else item
    name = item["name"]
    if name in RESERVED:
        raise InputError(f"{where}.name': {name!r} means something else in the tables; choose another name")
    given = [key for key in ("files", "command", "method") if key in item]
    if len(given) > 1:
        raise InputError(f"{where}': expected one of files, command, method; found {' and '.join(given)}")
    kind = given[0] if given else "method"
    if kind == "method" and (own := item.get("method", name)) not in OWN_METHODS:
        raise InputError(
            f"{where}': {name[:60]!r} is none of {', '.join(OWN_METHODS)}{closest(name, OWN_METHODS)}; say where its"
            " masks come from: files (existing masks), command (a program), or method (ours, with other options)"
        )
    _check_keys(item, kind, where)
    if kind == "method":
        return DeclaredMethod(name, own, options=dict(item.get("options") or {}))
    if name in OWN_METHODS:
        raise InputError(f"{where}.name': {name} is a method of spineseg; choose another name for the {kind}")
    _check_placeholders(item[kind], kind, f"{where}.{kind}'")
    return DeclaredMethod(
        name,
        kind,
        template=item[kind],
        timeout_min=float(item.get("timeout", TIMEOUT_MIN)),
        version=str(item.get("version", "")),
        roots=roots if kind == "files" else (),
        label=item.get("label"),
    )


def _check_keys(item: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse keys that mean nothing for this kind of method."""
    allowed = {"files": ("version", "label"), "command": ("version", "timeout", "label"), "method": ("options",)}[kind]
    for key in item:
        if key not in ("name", kind, *allowed):
            raise InputError(f"{where}.{key}': has no meaning beside {kind}; expected {', '.join(allowed)}")


def _check_placeholders(template: str, kind: str, where: str) -> None:
    """Refuse unknown placeholders, and templates that name no image."""
    known = COMMAND_NAMES if kind == "command" else IMAGE_NAMES
    try:
        names = placeholders(template)
        if kind == "command":
            check_command(template)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for name in names:
        if name not in known:
            listed = ", ".join(f"{{{n}}}" for n in known)
            raise InputError(
                f"{where}: no placeholder {{{name}}}{closest(name, known)}; known: {listed}; for braces write {{{{ }}}}"
            )
    if kind == "command" and not ({"image", "image_id"} & set(names) and {"mask", "folder"} & set(names)):
        raise InputError(f"{where}: expected {{image}} and {{mask}} (or {{folder}}) in the command, found {template!r}")
    if kind == "files" and not {"image_id", "stem", "subject"} & set(names):
        raise InputError(f"{where}: expected a path with {{image_id}} or {{subject}}, found {template!r}")


def check_declared(
    methods: Mapping[str, DeclaredMethod], images: Sequence[StudyImage] | None, *, has_started: bool = False
) -> None:
    """Check, before anything runs, that methods have what they need: options, weights, programs, masks.

    Parameters
    ----------
    methods : dict of DeclaredMethod
    images : sequence of StudyImage or None
        Every image, included or not; None if they are not known yet.
    has_started : bool
        Whether the study has started. People may then be left out even if nobody else has a mask of a method.

    Raises
    ------
    InputError
        If something is missing; the message is one line and names the key. It is no error if some images have no
        mask, only if all have none.
    """
    for position, method in enumerate(methods.values()):
        where = f"config key 'methods.{position}"
        if method.options:
            try:
                method.params()
                own_method(method.kind).hash_weights(method.weights)
            except InputError as error:
                raise InputError(f"{where}.options': {error}") from error
        if method.kind == "command":
            _check_program(method.template, f"{where}.command'")
        if method.kind == "files" and images:
            _check_masks(method, images, f"{where}.files'", has_started=has_started)


def _check_masks(method: DeclaredMethod, images: Sequence[StudyImage], where: str, *, has_started: bool) -> None:
    """Refuse a path that leads to no mask of the study.

    Before the study starts, an included image must have a mask; after it, one of an image left out suffices.
    """
    if any(method.find_masks(image) for image in images if image.included):
        return
    left = next((image for image in images if method.find_masks(image)), None)
    if left and has_started:
        return
    example = next((image for image in images if image.included), images[0])
    first = Path(method.roots[0]) / fill_path(method.template, image_names(example))
    found = f"only of images left out, such as {left.image_id}: {left.reason}" if left else "none"
    raise InputError(
        f"{where}: expected masks of the study's images such as {first}, found {found}"
        f" (looked in {' and '.join(map(str, method.roots))})"
    )


def _check_program(command: str, where: str) -> None:
    """Refuse a command whose program bash does not find."""
    try:
        words = [word for word in shlex.split(command) if "=" not in word.split("{")[0]]
    except ValueError as error:
        raise InputError(f"{where}: not a command that a shell reads ({str(error).lower()}): {command}") from error
    shell = shutil.which("bash") or "sh"
    if not words or "{" in words[0]:
        return
    known = subprocess.run(
        [shell, "-c", 'type "$1"', shell, words[0]], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    if known.returncode:
        raise InputError(f"{where}: no program {words[0]!r} was found; install it, or give its whole path")
