"""Git's pre-receive hook: ``python -m controller_app.pre_receive`` judges a push whose objects are in quarantine.

Standard input has a line ``old new ref`` for each ref. Exit code 0 accepts the whole push, any other refuses all of it.
What is printed reaches whoever pushed.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from clawfactory_core.errors import CoreError
from clawfactory_core.promotion.names import PREFIX, proposal_of
from clawfactory_core.promotion.receive_rules import Push, PushLimits, check_push
from clawfactory_core.promotion.secret_rules import Fingerprints

from .services.denied import read_denied
from .services.tree_limits import read_tree_limits

#: What git tells its hook about the objects that are not in the repository yet.
QUARANTINE = ("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
_MOST_REFS = 16


def judge(lines: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Why a push is refused, as lines for whoever pushed; empty accepts it.

    :param lines: as git gives them to its hook.
    :param environment: of the process; the service that started git has put its settings there.
    :raises CoreError: it could not be judged; the push must be refused.
    """
    updates = [line.rstrip("\n").split(" ", 2) for line in lines]
    if not updates or len(updates) > _MOST_REFS or any(len(update) != 3 for update in updates):
        raise CoreError(f"git names {len(updates)} refs to its hook in a form that is not known")
    main = environment["CLAWFACTORY_MAIN"]
    fingerprints = Fingerprints.load(Path(environment["CLAWFACTORY_FINGERPRINTS"]))
    promotion = Path(environment["CLAWFACTORY_PROMOTION"])
    denied = read_denied(promotion)
    limits = PushLimits(pack_bytes=int(environment["CLAWFACTORY_PACK_BYTES"]), tree=read_tree_limits(promotion))
    found = []
    for old, new, ref in updates:
        push = Push(
            repository=Path(environment["CLAWFACTORY_PROPOSALS"]),
            uid=os.geteuid(),
            main=main,
            old=old,
            new=new,
            reference=ref,
            environment={name: environment[name] for name in QUARANTINE if name in environment},
            denied=denied,
            fingerprints=fingerprints,
            limits=limits,
        )
        refusal = check_push(push)
        if refusal is not None:
            found.append(f"{_shown(ref)}: {refusal}")
    return found


def _shown(ref: str) -> str:
    name = proposal_of(ref)
    return f"proposal/{name}" if name else f"{ascii(ref)[1:-1][:200]} (not below {PREFIX})"


def main() -> int:
    """Judge the push on standard input; return the exit code, which is 1 too when it cannot be judged."""
    sys.excepthook = _report_failure
    problems = judge(sys.stdin.buffer.read().decode("utf-8", "replace").splitlines(), os.environ)
    for problem in problems:
        sys.stderr.write(f"REFUSED {problem}\n")
        _tell_operator(problem)
    return 1 if problems else 0


def _report_failure(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # What went wrong is for the operator: the text may tell how the controller is made.
    sys.stderr.write("The push could not be checked, so it is refused; the operator finds the reason in the log.\n")
    where = "" if isinstance(error, CoreError) else f" ({traceback.extract_tb(trace)[-1]})"
    _tell_operator(f"the push could not be checked: {kind.__name__}: {error}{where}")


def _tell_operator(text: str) -> None:
    """Write one line to the pipe that the service has opened for it; all else that is printed reaches the bot."""
    line = " ".join(text.split())[:1000]
    os.write(int(os.environ["CLAWFACTORY_LOG_FD"]), f"{line}\n".encode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(main())
