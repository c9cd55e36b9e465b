"""Documents of a policy: everything that is wrong with one, a line of text each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.documents import DocumentError, dotted, find_faults, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from gatekeeper.platform.documents import Document

M = TypeVar("M", bound=BaseModel)


class PolicyError(InputError):
    """A policy cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the policy cannot be used:\n" + "\n".join(f"  {p}" for p in problems))


def read_model(path: Path, model: type[M]) -> tuple[Document, M]:
    """Read a YAML document of this model. Raises `PolicyError` that says all that is wrong."""
    try:
        document = read_yaml(path)
        return document, model.model_validate(document.value)
    except DocumentError as error:
        raise PolicyError([error.detail]) from error
    except ValidationError as error:
        raise PolicyError(
            [
                ": ".join(
                    filter(
                        None, (document.place(fault.location), dotted(fault.location), str(fault))
                    )
                )
                for fault in find_faults(error, model, document.value)
            ]
        ) from error
