"""What the pages say before the first start: the node that forges today stops, and that is seen."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from blocks import DOCS, Block, blocks, marked

PAGES = ["install.md", "bare-metal.md"]
CLASSIC = "cardano_node_metrics_Forge_forge_about_to_lead_int"
NEW = "cardano_node_metrics_Forge_forgeAboutToLead_counter"
SAYS_SO = "this node does not forge\n"


def _typed(block: Block, folder: Path, *pages: str) -> str:
    """What it prints where the node's metrics are these, one after the other; an empty one: nobody answers."""
    for number, page in enumerate(pages):
        (folder / f"page{number}").write_text(page)
    (folder / "curl").write_text(
        'n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) >count; test -s "page$n" && cat "page$n"\n'
    )
    (folder / "sleep").write_text("true\n")
    for name in ("curl", "sleep"):
        (folder / name).write_text("#!/bin/sh\n" + (folder / name).read_text())
        (folder / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", block.text],
        cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert (done.returncode == 0) is (done.stdout == SAYS_SO)
    return done.stdout


@pytest.fixture(params=PAGES)
def block(request: pytest.FixtureRequest) -> Block:
    (found,) = marked(request.param, "before")
    return found


@pytest.mark.parametrize("name", [CLASSIC, NEW])
def test_a_node_whose_count_stands_still_does_not_forge(block: Block, tmp_path: Path, name: str) -> None:
    assert _typed(block, tmp_path, f"other 1\n{name} 77\n", f"other 2\n{name} 77\n") == SAYS_SO


def test_a_relay_counts_nothing_and_does_not_forge(block: Block, tmp_path: Path) -> None:
    assert _typed(block, tmp_path, "other 1\n", "other 2\n") == SAYS_SO


@pytest.mark.parametrize("name", [CLASSIC, NEW])
@pytest.mark.parametrize(
    ("first", "second"), [("77", "87"), ("77", None), (None, "77")], ids=["it counts", "it went away", "it comes"]
)
def test_nothing_else_is_called_a_proof(
    block: Block, tmp_path: Path, name: str, first: str | None, second: str | None
) -> None:
    pages = [f"{name} {value}\n" if value else "" for value in (first, second)]
    assert _typed(block, tmp_path, *pages) == ""


@pytest.mark.parametrize(
    ("page", "starts"), [("install.md", "apply -f deploy/examples"), ("bare-metal.md", "enable --now")]
)
def test_it_is_asked_before_anything_is_started(page: str, starts: str) -> None:
    (asked,) = marked(page, "before")
    (first, *_) = [each for each in blocks(page) if starts in each.text]
    assert asked.line < first.line


def test_a_chart_names_the_page_before_its_first_command_and_after_its_last() -> None:
    chart = (DOCS / "chart.md").read_text("utf-8")
    assert "The node that\nforges today" in chart
    assert "docs/install.md" in (DOCS.parent / "deploy" / "chart" / "templates" / "NOTES.txt").read_text("utf-8")


def test_what_is_copied_is_written_for_nobody_else_and_is_gone_at_the_end() -> None:
    made = [
        each
        for each in marked("bare-metal.md", "cluster", "api")
        if "> token" in each.text or "> kubeconfig" in each.text
    ]
    assert len(made) == 2
    assert all(re.search("^umask 077$.*> (token|kubeconfig)", each.text, re.MULTILINE | re.DOTALL) for each in made)
    (brought,) = [each for each in marked("bare-metal.md", "host") if "install -m 0400" in each.text]
    (removed,) = [line.split()[1:] for line in brought.text.splitlines() if line.startswith("rm ")]
    installed = {word for line in brought.text.splitlines() if "install -m 0400" in line for word in line.split()[7:-1]}
    assert set(removed) == installed == {"kes.skey", "vrf.skey", "node.cert", "kubeconfig", "token", "ca.crt"}


@pytest.mark.parametrize("page", ["install.md", "clusters.md", "upgrading.md", "chart.md"])
def test_every_page_that_speaks_of_another_lease_ends_all_pods_before(page: str) -> None:
    text = " ".join((DOCS / page).read_text("utf-8").split())
    assert re.search(r"delete statefulset cardano-producer --cascade=foreground", text)
    assert "exclude each other by the cluster's Lease as before" not in text
