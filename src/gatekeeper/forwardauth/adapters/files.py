"""A configuration from its files and the environment, with everything that is wrong at once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from gatekeeper.forwardauth.adapters import sources
from gatekeeper.forwardauth.adapters.definitions import check_keys, sort_out
from gatekeeper.forwardauth.adapters.environment import PREFIX, overlay
from gatekeeper.forwardauth.adapters.problems import problem_at, unreadable
from gatekeeper.forwardauth.config import Configuration, RuleDocument, Server
from gatekeeper.forwardauth.config.loaded import Loaded
from gatekeeper.forwardauth.errors import WHOLE_FILE, ConfigurationError, Problem
from gatekeeper.forwardauth.model import SkippedDefinition
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.documents import (
    MAX_FILE_BYTES,
    DocumentError,
    dotted,
    find_faults,
    read_bytes,
    read_document,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gatekeeper.platform.documents import Document, Location

MAX_TOTAL_BYTES: Final = 64 * MAX_FILE_BYTES
"""Of all files of a configuration together."""
MAX_SECRET_BYTES: Final = 65_536


def load(path: Path, *, environ: Mapping[str, str]) -> Loaded:
    """Read a configuration, and leave out what of it cannot be used.

    Raises `ConfigurationError` when the server block, or what it names, or the file as a whole
    cannot be used.
    """
    main = _main(path)
    server, fatal = _server(main, environ)
    if server is None:
        raise ConfigurationError([*fatal, *sort_out([main], None).problems])
    reading = _Reading(main=main, server=server, fatal=fatal)
    reading.find_extras()
    reading.read_rules()
    reading.read_templates()
    environment = reading.read_environment(environ)
    secrets = reading.read_secrets()
    found = sort_out([main, *reading.documents], server)
    problems = [*reading.problems, *found.problems]
    if reading.fatal:
        raise ConfigurationError([*reading.fatal, *problems])
    folder = server.templates.templates_folder
    return Loaded(
        configuration=Configuration(server=server, endpoints=found.endpoints, rules=found.rules),
        skipped=tuple(sorted([*reading.skipped, *found.skipped])),
        problems=tuple(problems),
        digest=reading.digest(environ),
        environment=environment,
        secrets=secrets,
        templates_folder=None if folder is None else sources.beside(path, folder),
        place=partial(_place, (main, *reading.documents)),
    )


def _place(documents: tuple[Document, ...], where: Location) -> str:
    """Say where a part stands: in the document that has the definition it belongs to."""
    for document in documents:
        section = document.value.get(where[0]) if isinstance(document.value, dict) else None
        if isinstance(section, dict) and where[1] in section:
            return document.place(where)
    return documents[0].place(where)


def _main(path: Path) -> Document:
    try:
        main = read_document(path)
    except DocumentError as error:
        raise ConfigurationError([unreadable(error)]) from error
    if not isinstance(main.value, dict):
        message = "expected a mapping with server, endpoints and rules"
        raise ConfigurationError([problem_at(main, (), message)])
    return main


def _server(main: Document, environ: Mapping[str, str]) -> tuple[Server | None, list[Problem]]:
    """Return the server block, and what is wrong with it or with the file as a whole."""
    problems = check_keys(main, Configuration)
    block = main.value.get("server")
    if block is None:
        block = {}
    if not isinstance(block, dict):
        return None, [*problems, problem_at(main, ("server",), "expected a mapping")]
    over = overlay(block, environ)
    problems += over.problems
    try:
        return Server.model_validate(over.value), problems
    except ValidationError as error:
        for fault in find_faults(error, Server, over.value):
            where = ("server", *fault.location)
            problems.append(
                Problem(
                    place=over.place(fault.location) or main.place(where),
                    key=dotted(where),
                    message=fault.message,
                    near=fault.near,
                )
            )
        return None, problems


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What is read besides the file itself, and what came of it."""

    main: Document
    server: Server
    documents: list[Document] = field(default_factory=list)
    skipped: list[SkippedDefinition] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    fatal: list[Problem] = field(default_factory=list)
    """What is wrong with the file as a whole, or named by the server block and not to be had."""
    _parts: list[tuple[str, str, bytes]] = field(default_factory=list)
    _bytes: int = 0

    def find_extras(self) -> None:
        """Look for the packages that only some configurations need, without loading them."""
        if self.server.grpc is not None and not (_found("grpc") and _found("google.protobuf")):
            message = "gRPC is not installed: pip install 'gatekeeper-access[grpc]'"
            self._refuse(("server", "grpc"), message)

    def read_rules(self) -> None:
        """Read the rule documents. One that cannot be read is left out, as a rule would be."""
        self._count("document", self.main.path, self.main.content)
        key = "rulesFile" if self.server.rules.rules_folder is None else "rulesFolder"
        try:
            files = sources.rule_files(self.main.path, self.server)
        except DocumentError as error:
            self._lacks(("server", "rules", key), error)
            return
        for file in files:
            try:
                document = read_document(file)
            except DocumentError as error:
                if self._is_the_rules_file(file):
                    self._lacks(("server", "rules", "rulesFile"), error)
                    continue
                self.problems.append(unreadable(error))
                self.skipped.append(
                    SkippedDefinition("document", file.name, error.what, (str(file),))
                )
                continue
            self._count("document", file, document.content)
            self.problems += check_keys(document, RuleDocument)
            self.documents.append(document)

    def _is_the_rules_file(self, file: Path) -> bool:
        name = self.server.rules.rules_file
        return name is not None and file == sources.beside(self.main.path, name)

    def read_templates(self) -> None:
        """Read the templates, to know when one is another. Whoever compiles them reads again."""
        where = ("server", "templates", "templatesFolder")
        try:
            for file in sources.template_files(self.main.path, self.server):
                self._count("template", file, read_bytes(file))
        except DocumentError as error:
            self._lacks(where, error)

    def read_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        values = {}
        for name, said in self.server.variables.environment.items():
            variable = said or name
            if variable in environ:
                values[name] = environ[variable]
                data = environ[variable].encode("utf-8", "surrogateescape")
                self._parts.append(("variable", name, data))
            else:
                message = f"the environment has no variable {variable}"
                self._refuse(("server", "variables", "environment", name), message)
        return values

    def read_secrets(self) -> dict[str, Secret]:
        values = {}
        for name, file in sources.secret_files(self.main.path, self.server):
            where = ("server", "variables", "secrets", name)
            written = self.server.variables.secrets[name]
            try:
                data = _secret(file, written or name)
                values[name] = Secret(data.decode("utf-8").rstrip("\r\n"))
                self._parts.append(("secret", name, data))
            except DocumentError as error:
                self._lacks(where, error)
            except UnicodeDecodeError:
                self._refuse(where, f"{file}: expected UTF-8")
        return values

    def digest(self, environ: Mapping[str, str]) -> bytes:
        """Hash everything that was read."""
        said = [
            ("setting", name, value.encode("utf-8", "surrogateescape"))
            for name, value in sorted(environ.items())
            if name.startswith(PREFIX)
        ]
        return _digest([*self._parts, *said])

    def _count(self, kind: str, file: Path, content: bytes) -> None:
        self._bytes += len(content)
        if self._bytes > MAX_TOTAL_BYTES:
            message = f"a configuration may have at most {MAX_TOTAL_BYTES} bytes in all its files"
            raise ConfigurationError([Problem(place=str(file), key=WHOLE_FILE, message=message)])
        self._parts.append((kind, os.path.relpath(file, self.main.path.parent), content))

    def _lacks(self, where: Location, error: DocumentError) -> None:
        self._refuse(where, error.detail)

    def _refuse(self, where: Location, message: str) -> None:
        self.fatal.append(problem_at(self.main, where, message))


def _found(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _secret(path: Path, name: str) -> bytes:
    """Read a secret. Its name is one of a file: `../` leads nowhere, and neither does a link."""
    if "/" in name or name.startswith("."):
        raise DocumentError(path, "expected the plain name of a file")
    folder = os.path.realpath(path.parent)
    if not os.path.realpath(path).startswith(f"{folder}/"):
        raise DocumentError(path, "a link that leaves the folder is not followed")
    return read_bytes(path, MAX_SECRET_BYTES)


def _digest(parts: Iterable[tuple[str, str, bytes]]) -> bytes:
    """Hash each part with its length, so that none runs into another."""
    hashed = hashlib.sha256()
    for kind, name, content in parts:
        for data in (kind.encode(), name.encode("utf-8", "surrogateescape"), content):
            hashed.update(len(data).to_bytes(8, "big"))
            hashed.update(data)
    return hashed.digest()
