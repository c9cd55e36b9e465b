"""Write the generated pages of docs/reference, and the pacts: `make docs`."""

from published import pacts
from published.reference import REFERENCE, pages


def write() -> None:
    for name, text in pages().items():
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    pacts.write(pacts.PACTS)


write()
