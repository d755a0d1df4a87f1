"""Each transition of a model names the function that implements it, or the assumption under which the world does it."""

from __future__ import annotations

import importlib
import re

import pytest

from devkit.model import CHECKS, MUTANTS, ROOT, Mutant

from promela import MODELS, Inline, inlines, names, options, text_of

TRANSITIONS = [(model, each) for model in MODELS for each in inlines(text_of(model)) if not each.helper]
NAMES = sorted({name for _, each in TRANSITIONS for name in names(each.comment)})


def found(name: str) -> object:
    """The object of a dotted name.  Raises AttributeError, ModuleNotFoundError."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:cut])
        if path.with_suffix(".py").exists():
            there: object = importlib.import_module(".".join(parts[:cut]))
            for part in parts[cut:]:
                there = getattr(there, part)
            return there
    raise ModuleNotFoundError(name)


def test_there_are_transitions_of_every_model() -> None:
    assert {model for model, _ in TRANSITIONS} == set(MODELS) == {"election", "fence", "lock"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_transition_names_is_there(name: str) -> None:
    assert found(name) is not None


def test_a_name_that_is_gone_is_noticed() -> None:
    with pytest.raises(AttributeError):
        found("policy.pool_lock.PoolLock.authority_until")
    with pytest.raises(ModuleNotFoundError):
        found("policies.pool_lock")


@pytest.mark.parametrize(("model", "transition"), TRANSITIONS, ids=lambda each: getattr(each, "name", each))
def test_every_transition_says_who_does_it(model: str, transition: Inline) -> None:
    assert names(transition.comment) or "world: " in transition.comment, f"{model}: {transition}"


@pytest.mark.parametrize("model", MODELS)
def test_every_option_of_a_process_is_one_named_transition(model: str) -> None:
    text = text_of(model)
    named = {each.name for each in inlines(text) if not each.helper}
    done = options(text)
    assert len(done) == text.count(":: d_step {")
    for steps in done:
        called = re.findall(r"(\w+)\([^()]*\)", steps)
        assert called[0] in named, steps
        assert set(called[1:]) <= {"sort", "check"}, steps
    called_somewhere = {re.findall(r"\w+", steps)[0] for steps in done}
    nested = {name for each in inlines(text) for name in re.findall(r"(\w+)\(", each.body)}
    assert named <= called_somewhere | nested


def test_the_mutants_that_are_run_are_the_switches_of_the_models() -> None:
    switches = {(model, name) for model in MODELS for name in re.findall(r"MUTANT_(\w+)", text_of(model))}
    assert switches == {(mutant.model, mutant.name) for mutant in MUTANTS}
    assert len(MUTANTS) >= 12


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.key)
def test_what_a_mutant_violates_holds_without_it(mutant: Mutant) -> None:
    assert not mutant.switches or (mutant.model, mutant.switches, mutant.claim, mutant.fair) in {
        (check.model, check.switches, check.claim, check.fair) for check in CHECKS
    }


@pytest.mark.parametrize("model", MODELS)
def test_no_line_is_longer_than_the_code_s(model: str) -> None:
    assert max(len(line) for line in text_of(model).splitlines()) <= 120
