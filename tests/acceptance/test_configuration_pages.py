"""Configurations of forward auth that the how-tos show are whole, and answer as they say."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from acceptance.documents import blocks, gates, how_to, lines, write_gate
from acceptance.local_stack import unmeasured
from gatekeeper.forwardauth.adapters.language import Language

NOT_TYPED: dict[str, str] = {}
"""What is not typed, and why."""


@pytest.mark.parametrize("page", gates(), ids=lambda page: page.stem)
def test_a_page_is_typed_and_its_configuration_answers_as_it_says(
    page: Path, tmp_path: Path
) -> None:
    write_gate(page, tmp_path)
    typed = [line for line in lines(page) if line not in NOT_TYPED]
    environment = {
        **unmeasured(os.environ),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["/bin/bash", "-e", "-c", "\n".join(typed)],
        cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert {"passctrl check config.yaml", "passctrl test config.yaml"} <= set(typed)
    assert done.returncode == 0, done.stdout
    assert "nothing to mend" in done.stdout
    assert " 0 failed" in done.stdout


@pytest.mark.parametrize("page", gates(), ids=lambda page: page.stem)
def test_every_endpoint_of_a_page_is_asked_for_an_allow_and_a_refusal(page: Path) -> None:
    documents = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    outcomes = defaultdict(set)
    for document in documents:
        for case in document.get("cases", []):
            outcomes[case["endpoint"]].add(case["expect"]["outcome"])

    endpoints = {name for document in documents for name in document.get("endpoints", {})}
    assert outcomes.keys() == endpoints
    for name, seen in outcomes.items():
        assert "pass" in seen, name
        assert seen & {"fail", "error"}, name


def test_the_migrations_are_among_them() -> None:
    names = {page.stem for page in gates()}

    for origin in ("heimdall", "oathkeeper", "oauth2-proxy", "passctrl-original"):
        assert f"migrate-from-{origin}" in names


def test_templates_are_what_the_migration_says() -> None:
    page = how_to("migrate-from-passctrl-original.md").read_text()
    table = page.partition("| Go, with Sprig")[2].partition("\n\n")[0]
    rows = [re.split(r"(?<!\\)\|", row)[1:3] for row in table.splitlines()[2:]]
    assert len(rows) > 10
    language = Language()
    for theirs, ours in ([re.findall(r"`(\{.*?\})`", cell) for cell in row] for row in rows):
        for source in theirs:
            if source != "{{ now }}":
                with pytest.raises(ValueError, match="line 1"):
                    language.template(source.replace("\\|", "|"))
        for source in ours:
            language.template(source.replace("\\|", "|"))


def test_every_command_that_is_not_typed_still_stands_somewhere() -> None:
    assert NOT_TYPED.keys() <= {line for page in gates() for line in lines(page)}
