"""`forgectl why`: one paragraph, why does this pod forge or not; below it what its workers decided last."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from typing import Any, Final

from cli import asking
from cli.asking import PATIENCE_S, Failed, columns, printable, timestamp
from cli.looking import picture_of
from config import Config
from gateway.chronicle import Chronicle
from gateway.story import Headline, headline
from gateway.views import Picture
from ipc.messages import DebugDecisions, DebugWhat, Decision, Fence, Worker

DECIDE: Final = (Worker.PROBER, Worker.ARBITER, Worker.ELECTOR, Worker.ACTUATOR)
"""In the order in which one's word leads to the next one's deed."""
MOST: Final = 16


def add_command(commands: Any) -> None:
    why = commands.add_parser(
        "why",
        help="why does this pod forge, or not? one paragraph, and what its workers decided last",
        description="Exit code 0 whatever the answer is; 1 if no worker answers.",
    )
    why.add_argument("--json", action="store_true")
    why.set_defaults(command=_why)


def _why(config: Config, arguments: argparse.Namespace) -> None:
    picture = picture_of(config)
    told = headline(picture, Chronicle())
    decisions, unasked = _decided(config)
    if arguments.json:
        shown = {
            "pod": config.pod_name,
            "standing": told.standing,
            "title": told.title,
            "forger": told.forger or None,
            "cluster": told.cluster or None,
            "right_ends_in_seconds": round(picture.seconds_until(told.until), 1) if told.until else None,
            "next": told.next,
            "why": told.why,
            "decisions": [
                {"time": timestamp(each.at), "worker": worker, "event": each.event, "message": each.message}
                for worker, each in decisions
            ],
            "not_asked": unasked,
        }
        print(json.dumps(shown, indent=2))
        return
    print(printable(paragraph(picture, told)))
    if decisions:
        print()
        rows = [(timestamp(each.at), str(worker), _words(each)) for worker, each in decisions]
        print("\n".join(columns(rows)))
    for why in unasked:
        print(printable(f"({why})"))


def paragraph(picture: Picture, told: Headline) -> str:
    """For people."""
    pod, actuator = picture.config.pod_name, picture.actuator
    if actuator is None:
        sentences = [f"It is not known whether {pod} forges: its actuator is silent."]
        sentences += [f"{told.forger} has the right to."] if told.forger and told.forger != pod else []
    elif actuator.fence is Fence.FENCED:  # the only state that is proven
        sentences = [f"{pod} does not forge."]
        # of others it knows who may, not whether that one's node does
        where = f" in {told.cluster}" if told.forger and picture.pool is not None else ""
        sentences.append(f"{told.forger} has the right to{where}." if told.forger else f"{told.title}.")
    else:
        sentences = [f"{told.title}."]
    if told.until:
        sentences.append(f"That right lasts {picture.seconds_until(told.until):.0f} s, unless it is renewed.")
    sentences.append("Why: " + "; ".join(told.why) + ".")
    sentences.append(f"Next: {told.next}.")
    return " ".join(sentences)


def _decided(config: Config) -> tuple[list[tuple[Worker, Decision]], list[str]]:
    """What each worker that decides did last, oldest first; and who did not tell.  In PATIENCE_S for all together."""
    until = time.monotonic() + PATIENCE_S
    found: list[tuple[Worker, Decision]] = []
    unasked: dict[Worker, str] = {}
    with ExitStack() as stack:
        asked = {}
        for worker in DECIDE:
            try:
                asked[worker] = stack.enter_context(asking.ask(config, worker, DebugWhat.DECISIONS, until))
            except Failed as why:
                unasked[worker] = str(why)
        for worker, sock in asked.items():
            try:
                reply = asking.answer(config, worker, DebugWhat.DECISIONS, sock, until, DebugDecisions)
            except Failed as why:
                unasked[worker] = f"the {worker}: {why}"
            else:
                found += [(worker, decision) for decision in reply.decisions]
    found.sort(key=lambda each: each[1].at)
    return found[-MOST:], [unasked[worker] for worker in DECIDE if worker in unasked]


def _words(decision: Decision) -> str:
    """What says nothing here is left out: that a line is of the audit trail, a reason that is the message, no value."""
    nothing, beside = ("", "None", decision.message), ("audit", "number")
    told = {name: value for name, value in decision.fields.items() if name not in beside and value not in nothing}
    return "  ".join([decision.message, *(f"{name}={value}" for name, value in told.items())])
