# SPDX-License-Identifier: BSD-2-Clause
"""`capstan run`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capstan import settings, ui
from capstan.cli.flags import verbose_option
from capstan.cli.options import build_options, make_build_options, need_a_build
from capstan.cli.resolve import POLICIES
from capstan.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from capstan.manifest import ImageManifest
    from capstan.run.net import NetOptions
    from capstan.run.request import InstanceRequest
    from capstan.run.restart import RestartPolicy
    from capstan.run.spec import RunOptions, RunSpec
    from capstan.store import StoredImage

    Function = TypeVar("Function", bound=Callable[..., None])

DEBUG_WORDS = ("torture", "echo")
ACCEL_HELP = "KVM, QEMU's emulator, or the best that works (default: auto)."
MACHINE_HELP = "Devices on MMIO (default: microvm, the fastest start) or on PCI."
PUBLISH_HELP = "Publish [ADDR:][HOST:]GUEST[/udp]; ranges like 80-89."
NET_HELP = "Network: user (QEMU's own; needs no rights), tap[=IF], bridge=NAME, none."
QUEUES_HELP = "Queues of the card (tap on q35; default: one per CPU, if the tap has them)."
PULL_HELP = "When to take the image from its registry (default: missing)."
NAME_HELP = "Name of the instance and its host name."
RESTART_HELP = "When to start it again (with -d): no, on-failure[:N] or always."
LOG_HELP = "Limits of the log (with -d): max-size=10M or max-file=3."
GRACE_HELP = "Time from the stop signal to the end of the machine (default: 10)."
TTY_HELP = "Refuse to run without a terminal; on one, the program always has it."
VERBOSE_HELP = "Say more, and show the guest's serial port on stderr."
FDS = "3 stdin/stdout, 4 stderr, 5 control, 6 serial, 7 QMP (sockets), 8 parameters, 9... tap"

OPTIONS = (
    click.option("-m", "--memory", metavar="SIZE", help="Memory, e.g. 64M or 2G."),
    click.option("-c", "--cpus", metavar="N", help="Number of CPUs."),
    click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable."),
    click.option("--env-file", multiple=True, metavar="FILE", help="Set variables from a file."),
    click.option("-w", "--workdir", metavar="DIR", help="Working directory in the guest."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user (name or number)."),
    click.option("--entrypoint", metavar="PROGRAM", help="Run this with ARGS instead."),
    click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), help=ACCEL_HELP),
    click.option("--machine", type=click.Choice(["microvm", "q35"]), help=MACHINE_HELP),
    click.option("--name", metavar="NAME", help=NAME_HELP),
    click.option("-p", "--publish", multiple=True, metavar="PORT", help=PUBLISH_HELP),
    click.option("-P", "--publish-all", is_flag=True, help="Publish the ports the image names."),
    click.option("--net", "--network", metavar="NETWORK", help=NET_HELP),
    click.option("--ip", multiple=True, metavar="ADDR/BITS", help="Address, or dhcp, or auto."),
    click.option("--gateway", multiple=True, metavar="ADDR", help="Router of tap and bridge."),
    click.option("--dns", multiple=True, metavar="ADDR", help="Name server."),
    click.option("--add-host", multiple=True, metavar="NAME:ADDR", help="A line of /etc/hosts."),
    click.option("--mac", "--mac-address", metavar="ADDR", help="Ethernet address of the card."),
    click.option("--queues", type=int, metavar="N", help=QUEUES_HELP),
    click.option("--pcap", metavar="FILE", help="Write all frames to a file for tcpdump -r."),
    click.option("--pull", type=click.Choice(POLICIES), default="missing", help=PULL_HELP),
    click.option("--timeout", type=float, metavar="SEC", help="Stop after that time, status 124."),
    click.option(
        "--grace", "--stop-timeout", type=float, default=10.0, metavar="SEC", help=GRACE_HELP
    ),
    click.option("--stop-signal", metavar="SIGNAL", help="Signal that asks the program to end."),
    click.option("--strace", is_flag=True, help="Print the program's system calls on stderr."),
    click.option("--stats", is_flag=True, help="Show system calls and exits counted, at the end."),
    click.option("--loglevel", type=click.IntRange(0, 4), help="Kernel messages: 0 to 4 (debug)."),
    click.option("--kernel-word", multiple=True, metavar="WORD", help="A guest/README.md word."),
    verbose_option(VERBOSE_HELP),
    click.option("--gdb", is_flag=True, help="Wait for gdb on a private socket."),
    click.option("--gdb-port", type=click.IntRange(1, 65535), help="... on a port of localhost."),
    click.option("--dry-run", is_flag=True, help="Print the QEMU command line, start nothing."),
)


INSTANCE_OPTIONS = (
    click.option(
        "--rm", "auto_remove", is_flag=True, help="Remove the instance when it has ended."
    ),
    click.option("--restart", default="no", metavar="POLICY", help=RESTART_HELP),
    click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Mark the instance."),
    click.option("-i", "--interactive", is_flag=True, help="Keep stdin open for attach (with -d)."),
    click.option("-t", "--tty", is_flag=True, help=TTY_HELP),
    click.option("--log-opt", multiple=True, metavar="KEY=VALUE", help=LOG_HELP),
)


def run_options(function: Function) -> Function:
    """Adds the options of `capstan run` to a command."""
    for option in reversed((*OPTIONS, *INSTANCE_OPTIONS)):
        function = option(function)
    return function


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    short_help="Run a program as a virtual machine.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background, print the ID.")
@run_options
@build_options
@click.argument("target", metavar="IMAGE|PROGRAM|DIR")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context, /, detach: bool, target: str, args: tuple[str, ...], **given: object
) -> None:
    """Run an image, a program or a directory with a Capstanfile as a virtual machine.

    The machine behaves like the program: stdin, stdout, stderr, signals and exit status pass
    through. 124: --timeout passed, 125: capstan failed, 126 and 127: the program cannot be
    executed or was not found, 128+N: signal N.

    With -d it runs in the background: `capstan ps`, `logs`, `stop` and others take its name or ID.
    """
    request = make_request(target, args, given, background=detach)
    if given["dry_run"]:
        print_command(request.spec)
    elif detach:
        start_in_background(request)
    else:
        ctx.exit(run_in_foreground(request))


@click.command("create", context_settings={"allow_interspersed_args": False})
@run_options
@build_options
@click.argument("target", metavar="IMAGE|PROGRAM|DIR")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def create(target: str, args: tuple[str, ...], **given: object) -> None:
    """Make an instance without starting it; prints its ID. Options as for `run -d`."""
    from capstan.cli.instance_rows import opened

    if given["dry_run"]:
        raise UsageError(
            "create --dry-run: nothing is started anyway", hint="capstan run --dry-run"
        )
    instance = opened().create(make_request(target, args, given, background=True))
    instance.release()
    click.echo(instance.id)


def make_request(
    target: str, args: tuple[str, ...], given: dict[str, object], *, background: bool
) -> InstanceRequest:
    """What to run and how, checked."""
    from capstan.cli.resolve import Target, resolve_target
    from capstan.run.request import InstanceRequest
    from capstan.run.spec import plan

    options = make_options(args, given)
    policy = check_background(given, background=background)
    size, count = log_limits(given["log_opt"])
    check_build_options(target, given)
    wanted = Target(target, str(given["pull"]), is_folder=given["capstanfile"] is not None)
    image = resolve_target(wanted, lambda: make_build_options(given), ui.tell)
    warn_unsupported(image.manifest)
    if given["user"] is not None:
        options = with_user(options, str(given["user"]), image)
    return InstanceRequest(
        spec=plan(image.manifest, image.disk, image.kernel, options, _environ()),
        image=str(image.ref or image.manifest.name),
        digest=image.digest,
        name=options.name,
        labels=labels(given["label"]),
        restart=policy,
        auto_remove=bool(given["auto_remove"]),
        open_stdin=bool(given["interactive"]),
        log_size=size,
        log_files=count,
    )


def print_command(spec: RunSpec) -> None:
    """The QEMU command line, on stdout."""
    import shlex

    from capstan import run as service

    ui.tell(f"inherited descriptors: {FDS}")
    click.echo(shlex.join(service.command_line(spec)))


def start_in_background(request: InstanceRequest) -> None:
    """Start an instance and print its ID; the end of its log when it does not come up."""
    from capstan.cli.instance_rows import opened

    instance = opened().create(request)
    try:
        instance.start(ui.tell)
    except MachineError as err:
        if request.auto_remove:
            instance.remove(force=True)
        elif err.hint is None:
            err.hint = f"`capstan logs {instance.name}` has its output, `capstan rm` removes it"
        raise
    click.echo(instance.id)


def run_in_foreground(request: InstanceRequest) -> int:
    """The exit status of a run that other commands see while it lasts."""
    from capstan import paths
    from capstan import run as service
    from capstan.run.foreground import ForegroundKeeper

    keeper = ForegroundKeeper(paths.data_root(), request, ui.tell)
    return service.start(request.spec, ui.tell, keeper)


def check_background(given: dict[str, object], *, background: bool) -> RestartPolicy | None:
    """The restart policy, if the options go together.

    Raises:
        UsageError: they do not.
    """
    if given["tty"] and background:
        raise UsageError("-t: there is no terminal in the background", hint="leave out -t")
    if given["tty"] and not (os.isatty(0) and os.isatty(1)):
        raise UsageError("-t: stdin and stdout are not a terminal", hint="leave out -t")
    if not background:
        for option, is_given in (
            ("--restart", given["restart"] != "no"),
            ("--log-opt", bool(given["log_opt"])),
        ):
            if is_given:
                raise UsageError(f"{option}: means nothing in the foreground", hint="add -d")
        return None
    if given["gdb"] or given["gdb_port"] is not None:
        raise UsageError("-d --gdb: gdb needs the foreground", hint="leave out -d")
    from capstan.run import restart

    return restart.parse(str(given["restart"]))


def log_limits(given: object) -> tuple[int | None, int | None]:
    """The size and number of the files of a log; None: as the settings say.

    Raises:
        UsageError: no such option, or not a number.
    """
    from capstan.units import parse_size

    size: int | None = None
    count: int | None = None
    assert isinstance(given, tuple)
    for text in given:
        key, _, value = str(text).partition("=")
        if key == "max-size":
            size = int(value) if value.isdecimal() else parse_size(value)
        elif key == "max-file" and value.isdecimal() and int(value) >= 1:
            count = int(value)
        else:
            raise UsageError(f"--log-opt {text!r}", hint="max-size=10M or max-file=3")
    return size, count


def labels(given: object) -> dict[str, str]:
    """The labels in KEY=VALUE; without = the value is empty."""
    assert isinstance(given, tuple)
    pairs = (str(text).partition("=") for text in given)
    return {key: value for key, _, value in pairs}


def make_options(args: tuple[str, ...], given: dict[str, object]) -> RunOptions:
    """What the command line asks for, checked."""
    from capstan.run import names, spec

    files = given["env_file"]
    assert isinstance(files, tuple)
    entries = [entry for name in files for entry in spec.read_env_file(Path(str(name)))]
    extra = given["env"]
    assert isinstance(extra, tuple)
    name, timeout, port = (given[key] for key in ("name", "timeout", "gdb_port"))
    if timeout is not None and not float(str(timeout)) > 0:
        raise UsageError(f"--timeout {timeout}: not more than 0 seconds")
    verbose = bool(given["verbose"])
    loglevel = given["loglevel"] if given["loglevel"] is not None else (3 if verbose else None)
    return spec.RunOptions(
        args=args,
        entrypoint=_text(given["entrypoint"]),
        env=(*entries, *extra),
        workdir=_text(given["workdir"]),
        memory=settings.get_int("memory", _text(given["memory"])),
        cpus=settings.get_int("cpus", _text(given["cpus"])),
        accel=spec.Accel(settings.get("accel", _text(given["accel"]))),
        machine=spec.MachineType(settings.get("machine", _text(given["machine"]))),
        name=names.check(str(name)) if name is not None else None,
        strace=bool(given["strace"]),
        stats=bool(given["stats"]),
        gdb=str(port) if port is not None else ("unix" if given["gdb"] else None),
        verbose=verbose,
        timeout=float(str(timeout)) if timeout is not None else None,
        grace=float(str(given["grace"])),
        stop_signal=_text(given["stop_signal"]),
        loglevel=int(str(loglevel)) if loglevel is not None else None,
        words=_words(given["kernel_word"]),
        net=_net_options(given),
        hosts=_texts(given["add_host"]),
    )


def _net_options(given: dict[str, object]) -> NetOptions:
    from capstan.run.net import NetOptions

    lists = (given[key] for key in ("publish", "ip", "gateway", "dns"))
    publish, ip, gateway, dns = (value if isinstance(value, tuple) else () for value in lists)
    pcap = given["pcap"]
    return NetOptions(
        net=_text(given["net"]),
        publish=publish,
        publish_all=bool(given["publish_all"]),
        ip=ip,
        gateway=gateway,
        dns=dns,
        mac=_text(given["mac"]),
        pcap=Path(str(pcap)) if pcap is not None else None,
        queues=queues if isinstance(queues := given["queues"], int) else None,
    )


def check_build_options(target: str, given: dict[str, object]) -> None:
    """Refuse options of a build with the name of an image.

    Raises:
        UsageError: there are some, and nothing to build.
    """
    from capstan.cli.sources import looks_like_source

    if not need_a_build(given) or given["capstanfile"] is not None or looks_like_source(target):
        return
    if "/" not in target and not Path(target).exists():
        raise UsageError(
            f"{target} is not a file: these options need something to build",
            hint="build the image again with these options",
        )


def with_user(options: RunOptions, user: str, image: StoredImage) -> RunOptions:
    """The options with the user called `user` in the image.

    Raises:
        UsageError: there is none.
    """
    from capstan.build.sources.users import find_user, tables_of_disk

    found = find_user(user, *tables_of_disk(image.disk))
    home = () if "HOME" in image.manifest.config.env else (f"HOME={found.home}",)
    return dataclasses.replace(options, ids=found.ids, env=(*home, *options.env))


def warn_unsupported(manifest: ImageManifest) -> None:
    """One line for each thing the image asks for and this version does not give."""
    if volumes := manifest.config.volumes:
        ui.tell(f"{manifest.name}: volumes {', '.join(volumes)}: not supported yet, ignored")


def _words(given: object) -> tuple[str, ...]:
    """Debugging words for the guest kernel; it would take a misspelt one for nothing."""
    assert isinstance(given, tuple)
    for word in given:
        if word not in DEBUG_WORDS:
            raise UsageError(
                f"--kernel-word {word}: there is no such word", hint=" or ".join(DEBUG_WORDS)
            )
    return given


def _texts(value: object) -> tuple[str, ...]:
    assert isinstance(value, tuple)
    return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _environ() -> dict[str, str]:
    return dict(os.environ)
