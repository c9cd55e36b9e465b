"""Write the generated pages of docs/reference: `make docs`."""

from published.reference import REFERENCE, pages


def write() -> None:
    for name, text in pages().items():
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


write()
