"""The commands that concern the whole program: run, once, validate-config, draw-states, demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from reconciler.billing_access import check_billing
from reconciler.command import FAILED, Options, command
from reconciler.config import ConfigInvalid, check_files, check_permissions, find_path, load_config
from reconciler.cycle import run_cycle
from reconciler.process import stay_on_one_core
from reconciler.views import show_report
from states.diagram import draw_diagram, draw_table


@click.command()
@command
def run(options: Options) -> int:
    """Run until told to end (SIGTERM): watch billing and servers, and keep accounts as sold. For systemd."""
    from reconciler.daemon import Daemon  # the web framework and the scheduler cost the other commands time

    stay_on_one_core()
    if not Daemon(options.config_path).run():
        sys.stderr.flush()
        os._exit(0)  # Python would wait for the threads that still wait for a server
    return 0


@click.command()
@command
def once(options: Options) -> int:
    """One full cycle: read, compare, repair, and end."""
    # On a terminal the progress bar stands where the log lines would go.
    with (
        options.open(is_quiet=sys.stderr.isatty()) as app,
        options.output.progress("services") as progress,
    ):
        report = run_cycle(app, progress=progress)
    show_report(options.output, report)
    return 0 if report.is_converged else FAILED


@click.command(name="validate-config")
@command
def validate_config(options: Options) -> int:
    """Check the configuration and the files it names; all errors at once."""
    config = load_config(options.config_path)
    # A file that is open to everybody is told by both.
    told = [*check_permissions(config, find_path(options.config_path)), *check_files(config)]
    faults = list(dict.fromkeys(told)) or check_billing(config)
    if faults:
        raise ConfigInvalid(faults)
    if options.output.is_json:
        options.output.json({"path": str(find_path(options.config_path)), "errors": []})
    else:
        options.output.line(f"{find_path(options.config_path)} is in order")
    return 0


@click.command(name="draw-states")
@click.option("--table", "is_table", is_flag=True, help="Every move, in Markdown.")
@command
def draw_states(options: Options, is_table: bool) -> int:
    """Draw the state machine as a Mermaid diagram."""
    text = draw_table() if is_table else draw_diagram()
    if options.output.is_json:
        options.output.json({"text": text})
    else:
        click.echo(text, nl=False)
    return 0


@click.command()
@click.option("--keep", is_flag=True, help="Leave the servers running until Ctrl-C.")
@click.option("--services", type=click.IntRange(8, 20000), default=200, show_default=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to put its files (default: temporary)."
)
@command
def demo(options: Options, keep: bool, services: int, folder: Path | None) -> int:
    """Show it all on emulated servers, on this machine only: provision, tamper, repair."""
    from reconciler.demo import run_demo

    return run_demo(options.output, services=services, is_kept=keep, folder=folder)
