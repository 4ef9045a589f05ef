"""The command line, `reconciler`: the group of all commands.

A command's module is loaded when it is called: databases and HTTP take longer to load than most commands to
run. What concerns the whole program is in `reconciler.cli_program`, what looks and changes nothing in
`reconciler.cli_reports`, what intervenes in `reconciler.cli_operator`, what they show in `reconciler.views`.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Final

import click

from reconciler.process import collect_seldom, forbid_core_files

EXIT_CODES: Final = """\b
Exit codes:
  0  done, and nothing to report
  1  something failed, or waits for a person: it says what
  2  the configuration cannot be used, or wrong options
     plan: something would be changed
     orphans: there are some
"""

COMMANDS: Final = {
    "adopt": (
        "cli_operator:adopt",
        "Make an existing account the account of a service, on the service's server.",
    ),
    "approve": (
        "cli_operator:approve",
        "Accept what a guard stopped, and nothing else: `status` and `plan` show it.",
    ),
    "check-connection": (
        "cli_reports:check_connection_command",
        "Try each server with the calls that will be used; name the cause of a failure and its cure.",
    ),
    "demo": (
        "cli_program:demo",
        "Show it all on emulated servers, on this machine only: provision, tamper, repair.",
    ),
    "draw-states": (
        "cli_program:draw_states",
        "Draw the state machine as a Mermaid diagram.",
    ),
    "history": (
        "cli_reports:history",
        "What was done to a service, when, by whom and why; without ITEM what concerned no single one.",
    ),
    "hold": (
        "cli_operator:hold",
        "Pause a service: nothing is done to its account until `release`.",
    ),
    "once": (
        "cli_program:once",
        "One full cycle: read, compare, repair, and end.",
    ),
    "orphans": (
        "cli_reports:orphans",
        "Accounts that no service names.",
    ),
    "plan": (
        "cli_reports:plan",
        "Show what would be changed; change nothing.",
    ),
    "release": (
        "cli_operator:release",
        "End a service's hold or quarantine.",
    ),
    "reset-password": (
        "cli_operator:reset_password_command",
        "Give a service's account a new password, and put it on the service's card.",
    ),
    "resync": (
        "cli_operator:resync",
        "Look at services now and repair them; lifts a quarantine.",
    ),
    "rotate-key": (
        "cli_operator:rotate_key_command",
        "Make a new journal key, and encrypt with it what is kept.",
    ),
    "run": (
        "cli_program:run",
        "Run until told to end (SIGTERM): watch billing and servers, and keep accounts as sold.",
    ),
    "status": (
        "cli_reports:status",
        "Servers, daemons, guards, counts by state and what needs a person; or one service.",
    ),
    "usage": (
        "cli_reports:usage",
        "How much of what was sold is used, as last seen: servers, and services, the fullest first.",
    ),
    "validate-config": (
        "cli_program:validate_config",
        "Check the configuration and the files it names; all errors at once.",
    ),
}
"""Where each command is, and its help in one line; a test holds the lines equal to the commands' own."""


class _Commands(click.Group):
    """Knows its commands by name, and loads the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(f"reconciler.{module}"), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.option("--config", "config_path", metavar="FILE", help="Configuration file.")
@click.version_option(package_name="bill-nextcloud", prog_name="reconciler")
def main(config_path: str | None) -> None:  # noqa: ARG001 - read by `command`
    """Keeps Nextcloud and ownCloud accounts as BILLmanager sold them."""
    forbid_core_files()
    collect_seldom()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that a terminal lacks ends no command
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
