"""The options of passive checks -> :class:`Submission`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from check_mounts import passive
from check_mounts.options.command_line import Values
from check_mounts.options.configuration import SubmitSection
from check_mounts.options.refusals import UsageError, refuse
from check_mounts.passive import destinations
from check_mounts.passive.delivery import Submission
from check_mounts.typed import Optional


def settled(said: Values, sections: Sequence[SubmitSection]) -> Submission:
    """The destinations of the results, and the names of host and service. Raises UsageError."""
    known = {section.destination: section for section in sections}
    wanted = {word: _destination(word, known.get(word)) for word in said.submit}
    names = [each.name for each in wanted.values()]
    for name in names:
        if names.count(name) > 1:
            refuse("--submit", f"{name} is named twice, in different words")
    # Not the fully qualified name: that would take a query to a name server, which may be the host
    # that is down.
    host = said.submit_host if said.submit_host is not None else os.uname().nodename
    return Submission(tuple(wanted.values()), host, said.submit_service, said.submit_timeout)


def _destination(word: str, section: Optional[SubmitSection]) -> passive.Destination:
    """The destination that a word of --submit names. Raises UsageError."""
    try:
        return destinations.destination(word, section.settings if section is not None else passive.Settings())
    except ValueError as error:
        if section is not None:
            raise UsageError("", str(error), origin=section.origin) from None
        return refuse("--submit", str(error))
