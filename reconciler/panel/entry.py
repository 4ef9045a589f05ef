"""One call of BILLmanager, from its arguments to the answer on standard output and the exit code.

Everything heavy is imported by the command that needs it: BILLmanager calls often, ``features`` at its every
start. Standard output carries the answer and nothing else; the log goes to the module's file.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from reconciler.logs import get_logger, set_up_logging
from reconciler.panel.arguments import Arguments, parse_arguments
from reconciler.panel.documents import find_function, make_error, read_form, render
from reconciler.panel.errors import PanelError
from reconciler.process import collect_seldom, forbid_core_files

LOG_VARIABLE: Final = "PMNEXTCLOUD_LOG"
_LOGS: Final = (Path("/usr/local/mgr5/var/pmnextcloud.log"), Path("/var/log/mgr5/pmnextcloud.log"))
"""Of an installation as it is, and as the specification has it."""

_log = get_logger("panel")


def main(argv: Sequence[str]) -> int:
    """Carry out a call of BILLmanager.

    Returns:
        0 when it is done, 1 with an error document on standard output.
    """
    forbid_core_files()
    collect_seldom()
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints must not get into the answer
    _open_log()
    arguments = parse_arguments(argv)
    try:
        answer, code = _run(arguments), 0
    except PanelError as error:
        _log.log("error", "refused", command=arguments.get("command"), error=str(error))
        answer, code = make_error(error, arguments.language), 1
    except Exception as error:  # noqa: BLE001 - BILLmanager gets a document whatever happens
        # Its type only: the text of an unforeseen error could hold anything.
        _log.log("error", "defect", command=arguments.get("command"), error=_locate(error))
        failed = PanelError("failed", arguments.get("command") or "", f"{type(error).__name__}; see the log")
        answer, code = make_error(failed, arguments.language), 1
    out.write(render(answer))
    out.flush()
    return code


def _run(arguments: Arguments) -> Element:
    command = arguments.get("command")
    if command is None:
        raise PanelError("wrong_request", "command", "--command is missing")
    _log.log("info", "called", command=command, item=arguments.get("item"), module=arguments.get("module"))
    if command == "features":
        return make_features()
    run = _COMMANDS.get(command)
    if run is None:
        raise PanelError("wrong_request", "command", f"there is no command {command[:40]!r}")
    answer = run(arguments)
    _log.log("info", "done", command=command, item=arguments.get("item"), module=arguments.get("module"))
    return answer


def make_features() -> Element:
    """What the module can do, and which parameters its servers have."""
    document = Element("doc")
    SubElement(SubElement(document, "itemtypes"), "itemtype", name="backupservice")
    params = SubElement(document, "params")
    SubElement(params, "param", name="base_url")
    SubElement(params, "param", name="nc_username")
    SubElement(params, "param", name="nc_password", crypted="yes")
    features = SubElement(document, "features")
    for name in ("features", *_COMMANDS):
        if name != "set_param":  # BILLmanager names that feature setparam
            SubElement(features, "feature", name=name)
    return document


def _operate(operation: str) -> Callable[[Arguments], Element]:
    def run(arguments: Arguments) -> Element:
        from bm_db import Order
        from reconciler.panel.services import run_operation

        order = Order(operation, arguments.get_id("runningoperation"))
        run_operation(order, arguments.need_id("item"), arguments.language)
        return Element("doc")

    return run


def _sync_item(arguments: Arguments) -> Element:
    from reconciler.panel.services import sync_item

    sync_item(arguments.need_id("item"))
    return Element("doc")


def _change_password(arguments: Arguments) -> Element:
    from reconciler.panel.services import change_password

    change_password(arguments.need_id("item"), arguments.get("password"))
    return Element("doc")


def _collect_usage(arguments: Arguments) -> Element:
    from reconciler.panel.servers import collect_usage

    collect_usage(arguments.need_id("module"))
    return Element("doc")


def _check_connection(arguments: Arguments) -> Element:
    from reconciler.panel.servers import check_connection

    form = read_form(sys.stdin.buffer)
    found = form.find("processingmodule")
    check_connection(form if found is None else found, arguments.language)
    return Element("doc")


def _tune_connection(arguments: Arguments) -> Element:
    from reconciler.panel.servers import check_connection

    form = read_form(sys.stdin.buffer)
    if find_function(form) == "processing.add.user":
        check_connection(form, arguments.language)
    return form


def _remember_groups(arguments: Arguments) -> Element:
    from reconciler.panel.servers import remember_groups

    remember_groups(arguments.need_id("module"))
    return Element("doc")


def _fill_tariff_form(arguments: Arguments) -> Element:
    from reconciler.panel.servers import fill_tariff_form

    form = read_form(sys.stdin.buffer)
    fill_tariff_form(form, arguments.get_id("module"))
    return form


_COMMANDS: Final[dict[str, Callable[[Arguments], Element]]] = {
    "open": _operate("open"),
    "close": _operate("close"),
    "suspend": _operate("suspend"),
    "resume": _operate("resume"),
    "setparam": _operate("setparam"),
    "set_param": _operate("setparam"),
    "stat": _collect_usage,
    "check_connection": _check_connection,
    "tune_connection": _tune_connection,
    "get_server_config": _remember_groups,
    "pricelist_dynamic_settings": _fill_tariff_form,
    "pricelist_dynamic_settings_tune": _fill_tariff_form,
    "sync_item": _sync_item,
    "changepassword": _change_password,
}


def _open_log() -> None:
    """Write the log into the installation's place; on standard error where that cannot be written."""
    named = os.environ.get(LOG_VARIABLE)
    candidates = [Path(named)] if named else [path for path in _LOGS if path.parent.is_dir()]
    for path in candidates:
        try:
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w")
        except OSError:
            continue
        set_up_logging(is_json=False, level="info", stream=file)
        return
    set_up_logging(is_json=False, level="info")
    logging.raiseExceptions = False  # with standard error closed there is nowhere left to complain


def _locate(error: Exception) -> str:
    """An unforeseen error's type and the place in the program where it happened."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"
