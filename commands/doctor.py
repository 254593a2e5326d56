"""`referee doctor`: check every part of an installation."""

from __future__ import annotations

import sys

import click

from commands.options import json_option, reviewer_option
from commands.output import echo_json


@click.command(short_help="Check every part of the installation and say how to fix what fails.")
@reviewer_option
@json_option
def doctor(reviewer_name: str | None, as_json: bool) -> None:
    """Check every part and say how to mend what is broken; exit 3 when something is."""
    from dataclasses import asdict

    from settings import get_settings
    from worker.doctor import run_checks

    checks = run_checks(get_settings(), reviewer_name)
    ok = all(check.ok for check in checks)
    if as_json:
        echo_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
            if not check.ok:
                click.echo(f"     {check.fix}")
    sys.exit(0 if ok else 3)
