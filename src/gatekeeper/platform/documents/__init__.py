"""Documents that people write: read strictly, with the line of everything in them.

document.py    what reading gives              reading.py     a file, by its name's ending
from_yaml.py, from_json.py, from_toml.py       each kind of text
faults.py      what a model finds wrong        looking.py     files that change
"""

from gatekeeper.platform.documents.document import (
    MAX_FILE_BYTES,
    Document,
    DocumentError,
    Location,
)
from gatekeeper.platform.documents.faults import Fault, branches, dotted, find_faults, nearest
from gatekeeper.platform.documents.looking import LOOK_SECONDS, Fingerprint, Looks, fingerprint
from gatekeeper.platform.documents.reading import SUFFIXES, read_bytes, read_document, read_yaml

__all__ = [
    "LOOK_SECONDS",
    "MAX_FILE_BYTES",
    "SUFFIXES",
    "Document",
    "DocumentError",
    "Fault",
    "Fingerprint",
    "Location",
    "Looks",
    "branches",
    "dotted",
    "find_faults",
    "fingerprint",
    "nearest",
    "read_bytes",
    "read_document",
    "read_yaml",
]
