"""The demo of the second plane, as a newcomer sees it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO_SECONDS = 120


def test_the_demo_shows_who_got_what_and_why_and_leaves_nothing_running() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/basic/demo.py")],
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()[3:]
    assert [row.split()[-1] if "every" in row else row[38:43].strip() for row in rows] == [
        "401", "401", "passed", "passed", "403",
    ]  # fmt: skip
    assert 'Bearer realm="app"' in rows[0]
    assert "ada (admin)" in rows[2]
    assert "rita (reader)" in rows[3]
    assert 'rules["known-token"].role == "reader"' in rows[4]
