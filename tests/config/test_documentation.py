"""What is written about the configuration is what the code does."""

from __future__ import annotations

from devkit.docs import README, rendered


def test_the_readmes_table_is_the_one_the_code_makes() -> None:
    """Run `python -m devkit.docs` when this fails."""
    text = README.read_text()
    assert rendered(text) == text
