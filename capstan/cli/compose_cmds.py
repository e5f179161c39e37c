# SPDX-License-Identifier: BSD-2-Clause
"""`capstan compose`: several machines from one file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capstan import paths, ui
from capstan.cli.options import SINCE, TAIL
from capstan.cli.render import format_option, show
from capstan.errors import CapstanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capstan.compose.engine import Engine
    from capstan.compose.members import Member
    from capstan.compose.model import Project
    from capstan.compose.project import Request

SERVICES = click.argument("services", metavar="[SERVICE...]", nargs=-1)
TIMEOUT = click.option(
    "-t", "--timeout", type=float, metavar="SEC", help="From the stop signal to the end."
)
HELP = "`capstan compose --help` lists them"
NOTHING_BESIDE = "a machine runs one program, and nothing beside it"
# What Docker has and we do not.
INSTEAD = {
    "exec": NOTHING_BESIDE,
    "run": f"{NOTHING_BESIDE}; `capstan run` starts another one",
    "watch": "`capstan compose up -d` again takes what has changed",
    **{name: f"`capstan {name} PROJECT-SERVICE-1`" for name in ("kill", "pause", "unpause", "rm")},
    **{name: f"`capstan {name}`" for name in ("port", "top", "stats", "events", "images", "push")},
}
PS_COLUMNS = ("name", "image", "service", "status", "health", "ports")
FILE = click.Path(path_type=Path, readable=False)


@dataclass(frozen=True, slots=True)
class Given:
    """The options of `capstan compose` itself."""

    request: Request

    def load(self) -> Project:
        """The project, its warnings told."""
        from capstan.compose import project

        found = project.load(self.request)
        for warning in found.warnings:
            ui.tell(warning)
        return found

    def name(self) -> str:
        """The project's name; with -p no file is needed."""
        from capstan.compose import project

        return project.name_of(self.request)

    def engine(self) -> Engine:
        """What does the work."""
        from capstan.compose.engine import Engine

        return Engine(paths.data_root(), ui.tell)


class Group(click.Group):
    """Its commands, and the first Capstan's `compose IMAGE PATH`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command `args` begin with."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            if len(args) == 2 and Path(args[1]).exists():
                from capstan.cli.build_cmds import build

                return "build", build, ["-t", *args]
            import difflib

            close = difflib.get_close_matches(args[0], self.commands, 1)
            hint = f"did you mean `capstan compose {close[0]}`?" if close else HELP
            raise UsageError(f"compose has no command {args[0]}", hint=INSTEAD.get(args[0], hint))
        return super().resolve_command(ctx, args)


@click.group(cls=Group)
@click.option("-f", "--file", "files", multiple=True, type=FILE, help="Compose file; repeatable.")
@click.option("-p", "--project-name", "name", metavar="NAME", help="Name of the project.")
@click.option("--project-directory", "folder", type=FILE, help="What relative paths start from.")
@click.option("--env-file", "env_files", multiple=True, type=FILE, help="Instead of .env.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Services of it, too.")
@click.pass_context
def compose(
    ctx: click.Context,
    files: tuple[Path, ...],
    name: str | None,
    folder: Path | None,
    env_files: tuple[Path, ...],
    profiles: tuple[str, ...],
) -> None:
    """Run several machines from a Compose file, with a private network where names resolve.

    The file is compose.yaml (or .yml, docker-compose.yaml) of this directory or one above.
    """
    from capstan.compose.project import Request

    ctx.obj = Given(Request(files, name, folder, env_files, profiles, dict(os.environ)))


@compose.command()
@click.option("-d", "--detach", is_flag=True, help="In the background.")
@click.option("--build", is_flag=True, help="Build images anew first.")
@click.option("--no-build", is_flag=True, help="Build none.")
@click.option("--pull", type=click.Choice(["missing", "always", "never"]), help="Pull images when.")
@click.option("--force-recreate", is_flag=True, help="Make all instances anew.")
@click.option("--no-recreate", is_flag=True, help="Leave instances as they are.")
@click.option("--no-deps", is_flag=True, help="Without the services that SERVICE depends on.")
@click.option("--no-start", is_flag=True, help="Make instances, start none.")
@click.option("--remove-orphans", is_flag=True, help="Remove those no longer in the file.")
@click.option("--wait", is_flag=True, help="Until all are ready; in the background.")
@click.option("--wait-timeout", type=float, metavar="SEC", help="... but not longer.")
@click.option("--abort-on-container-exit", "abort", is_flag=True, help="One ends: stop all.")
@click.option("--exit-code-from", metavar="SERVICE", help="Its status is ours; stops all, too.")
@click.option("--no-log-prefix", is_flag=True, help="No names in front of lines.")
@TIMEOUT
@SERVICES
@click.pass_context
def up(ctx: click.Context, /, services: tuple[str, ...], **given: object) -> None:
    """Make and start the services, and show their output until Ctrl-C stops them."""
    from capstan.cli.compose_images import ServiceImages
    from capstan.cli.compose_up import Watch, options
    from capstan.compose.project import select

    how = ctx.find_object(Given)
    assert how is not None
    chosen = options(services, given)
    project, engine = how.load(), how.engine()
    build = True if given["build"] else (False if given["no_build"] else None)
    pull = given["pull"]
    images = ServiceImages(build=build, pull=str(pull) if pull is not None else None)
    names = select(project, services, with_needs=not chosen.no_deps)
    watch = Watch(engine, project.name, names, given)
    ctx.exit(watch.run(lambda: engine.up(project, images, chosen)))


@compose.command()
@click.option("--remove-orphans", is_flag=True, help="As always: all of the project goes.")
@TIMEOUT
@click.pass_obj
def down(given: Given, remove_orphans: bool, timeout: float | None) -> None:
    """Stop and remove all instances of the project, and its network."""
    name = given.name()
    if not given.engine().down(name, timeout):
        ui.tell(f"{name}: nothing was there")


@compose.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--services", "only_services", is_flag=True, help="Print only services.")
@format_option
@SERVICES
@click.pass_obj
def ps(
    given: Given,
    everything: bool,
    quiet: bool,
    only_services: bool,
    layout: str,
    services: tuple[str, ...],
) -> None:
    """List the instances of the project."""
    engine = given.engine()
    found = _members(engine, given.name(), services)
    found = [member for member in found if everything or member.instance.is_active]
    if quiet or only_services:
        for member in found:
            click.echo(member.service if only_services else member.instance.id[:12])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:  # those that are not ready take a second each
        rows = list(pool.map(lambda member: _row(engine, member), found))
    show(rows, PS_COLUMNS, layout)


@compose.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on until all have ended.")
@TAIL
@SINCE
@click.option("-t", "--timestamps", is_flag=True, help="A time in front of each line.")
@click.option("--no-log-prefix", is_flag=True, help="No names in front of lines.")
@SERVICES
@click.pass_obj
def logs_command(
    given: Given,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
    no_log_prefix: bool,
    services: tuple[str, ...],
) -> None:
    """Show what the services have written."""
    from capstan.cli.compose_up import Printer
    from capstan.compose import logs

    found = logs.sources(_members(given.engine(), given.name(), services))
    put = Printer(found, prefix=not no_log_prefix, timestamps=timestamps)
    for line in logs.present(found, since, tail):
        put(line)
    if follow:
        logs.follow(found, put, lambda _source: False)
    for line in (line for source in found for line in source.lines(flush=True)):
        put(line)


@compose.command()
@click.option("--ignore-pull-failures", is_flag=True, help="Go on with the others.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@SERVICES
@click.pass_obj
def pull(given: Given, ignore_pull_failures: bool, quiet: bool, services: tuple[str, ...]) -> None:
    """Pull the images of services that are not built."""
    from capstan.cli.compose_images import ServiceImages
    from capstan.compose.project import select

    project = given.load()
    images = ServiceImages(pull="always", quiet=quiet)
    for name in select(project, services, with_needs=False):
        service = project.services[name]
        if service.build is not None:
            continue
        try:
            image = images.pull(project, service)
        except CapstanError as err:
            if not ignore_pull_failures:
                raise
            ui.tell(f"{name}: {err.message}")
        else:
            if not quiet:
                ui.tell(f"{name}: {image.ref or image.digest[:12]}")


@compose.command("build")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="For Dockerfiles.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@SERVICES
@click.pass_obj
def build_command(
    given: Given, args: tuple[str, ...], quiet: bool, services: tuple[str, ...]
) -> None:
    """Build the images of services with `build:`."""
    from capstan.cli.compose_images import ServiceImages
    from capstan.compose.project import select

    project = given.load()
    images = ServiceImages(quiet=quiet)
    for name in select(project, services, with_needs=False):
        if project.services[name].build is not None:
            image = images.build(project, project.services[name], args)
            if not quiet:
                ui.tell(f"{name}: {image.ref}")


@compose.command()
@SERVICES
@click.pass_obj
def start(given: Given, services: tuple[str, ...]) -> None:
    """Start instances that were stopped."""
    given.engine().start(given.name(), services)


@compose.command()
@TIMEOUT
@SERVICES
@click.pass_obj
def stop(given: Given, timeout: float | None, services: tuple[str, ...]) -> None:
    """Stop instances; `start` starts them again."""
    given.engine().stop(given.name(), services, timeout)


@compose.command()
@TIMEOUT
@SERVICES
@click.pass_obj
def restart(given: Given, timeout: float | None, services: tuple[str, ...]) -> None:
    """Stop instances and start them again."""
    given.engine().restart(given.name(), services, timeout)


@compose.command()
@click.option("--services", "what", flag_value="services", help="Print only their names.")
@click.option("--images", "what", flag_value="images", help="Print only the images.")
@click.option("--networks", "what", flag_value="networks", help="Print only the networks.")
@click.option("-q", "--quiet", is_flag=True, help="Only check the files.")
@click.option(
    "--format", "layout", type=click.Choice(["yaml", "json"]), default="yaml", help="Print it so."
)
@click.pass_obj
def config(given: Given, what: str | None, quiet: bool, layout: str) -> None:
    """Print the project as it is understood: merged, variables put in."""
    from capstan.compose import plan, show

    project = given.load()
    if quiet:
        return
    if what == "images":
        lines = [plan.image_name(project.name, s) for s in project.services.values()]
    elif what is not None:
        lines = list(project.services if what == "services" else project.networks)
    else:
        lines = [show.text(project, layout)]
    for line in lines:
        click.echo(line)


@compose.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@click.pass_obj
def ls_command(given: Given, quiet: bool, layout: str) -> None:
    """List the projects."""
    from capstan.compose import members, plan, state

    engine = given.engine()
    found = members.projects(engine.instances)
    names = sorted({*found, *state.names(engine.root)})
    if quiet:
        for name in names:
            click.echo(name)
        return
    rows = []
    for name in names:
        own = found.get(name, [])
        running = sum(member.instance.is_active for member in own)
        files = own[0].labels.get(plan.FILES, "") if own else ""
        rows.append(
            {"name": name, "status": f"{running} of {len(own)} running", "config_files": files}
        )
    show(rows, ("name", "status", "config_files"), layout)


def _members(engine: Engine, project: str, services: Sequence[str]) -> list[Member]:
    from capstan.compose import members

    return members.of(engine.instances, project, services)


def _row(engine: Engine, member: Member) -> dict[str, object]:
    from capstan.cli import instance_rows

    instance = member.instance
    row = instance_rows.row(instance.config, instance.record, instance.name, full=False)
    return {**row, "service": member.service, "health": engine.health(member)}
