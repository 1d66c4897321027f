"""Runs a command with a SLURM of this machine, which ends with the command.

    python tests/slurm/one_machine.py COMMAND ...

The programs of SLURM and munge run as the user who calls, on 127.0.0.1 and on free ports, with a
configuration and a key of their own in a temporary folder. Where a program is missing, one sentence
says so, and the command does not run.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
NODE = "node1"
# A task of the partition `urgent` preempts those of `usual`. A task that was put back into the
# queue waits for as long as a credential is valid: by default for two minutes, and here for the
# shortest time that SLURM takes.
CONFIGURATION = """\
ClusterName=genets
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
CommunicationParameters=NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
MinJobAge=60
InactiveLimit=0
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:1 \
State=UNKNOWN
PartitionName=usual Nodes={node} Default=YES MaxTime=60 PriorityTier=1
PartitionName=urgent Nodes={node} MaxTime=60 PriorityTier=2
"""


def missing_programs() -> list[str]:
    """Give the programs that this machine lacks."""
    return [name for name in PROGRAMS if find_program(name) is None]


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def running_slurm() -> Iterator[dict[str, str]]:
    """Run SLURM for the block, and give the environment in which its commands find it."""
    folder = Path(tempfile.mkdtemp(prefix="genets-slurm-"))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder)
        munge = [f"--{name}={folder}/munge.{suffix}" for name, suffix in (
            ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
            ("seed-file", "seed"),
        )]  # fmt: skip
        stack.enter_context(_running(folder, environment, "munged", "--foreground", *munge))
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        stack.enter_context(_running(folder, environment, "slurmctld", "-D", "-i"))
        stack.enter_context(_running(folder, environment, "slurmd", "-D", "-N", NODE))
        _wait(lambda: _node_state(environment) == "idle", folder)
        try:
            yield environment
        finally:
            _end_tasks(environment)


def _end_tasks(environment: dict[str, str]) -> None:
    """Cancel the tasks that the command left behind: they would outlive the programs of SLURM."""
    words = ["scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}"]
    for command in (words, ["scancel", words[-1]]):
        subprocess.run(command, env=environment, check=False)
    deadline = time.monotonic() + STOP_SECONDS
    while _node_state(environment) != "idle" and time.monotonic() < deadline:
        time.sleep(0.1)


def _configure(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    folder.chmod(0o755)  # munged refuses a socket that others cannot reach
    for name in ("state", "spool"):
        (folder / name).mkdir()
    # SLURM refuses two GPUs by the number in its configuration; no task uses the GPU.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    controller, daemon = _free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            controller=controller,
            daemon=daemon,
            node=NODE,
        )
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


@contextmanager
def _running(
    folder: Path, environment: dict[str, str], name: str, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the foreground for the block."""
    program = find_program(name)
    assert program is not None, name
    with (folder / f"{name}.output").open("wb") as output:
        process = subprocess.Popen(
            [program, *words], env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _node_state(environment: dict[str, str]) -> str:
    words = ["sinfo", "--noheader", "--format=%t", f"--nodes={NODE}", "--partition=usual"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _wait(is_ready, folder: Path) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if time.monotonic() > deadline:
            logs = [path for path in folder.iterdir() if path.suffix in (".log", ".output")]
            tails = (f"{path.name}:\n{path.read_text()[-2000:]}" for path in logs)
            sys.exit("SLURM did not start\n" + "\n".join(tails))
        time.sleep(0.1)


def main(command: Sequence[str]) -> int:
    missing = missing_programs()
    if missing:
        print(f"skipped: this machine has no {', '.join(missing)}; on Debian: apt-get install "
              "slurmctld slurmd slurm-client munge")  # fmt: skip
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the programs are stopped
    with running_slurm() as environment:
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
