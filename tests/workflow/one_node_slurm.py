"""A SLURM of one node on the loopback interface, for tests: no systemd, no cgroups, no database.

The configuration must be at SLURM's built-in place, because Snakemake's job step plugin removes every
SLURM_ variable from the environment. A configuration of another SLURM is never touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

CONFIG = Path("/etc/slurm/slurm.conf")
MARK = "# written by the tests of spineseg\n"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "munged", "munge")

_TEMPLATE = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldPort=17817
SlurmdPort=17818
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
KillWait=2
MinJobAge=300
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why no SLURM can be started here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"needs slurm-wlm and munge; {missing[0]} is missing"
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return f"{CONFIG} belongs to another SLURM"
    return None


class OneNodeSlurm:
    """Start and stop the daemons; `root` holds their state and logs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = socket.gethostname().split(".")[0]

    def __enter__(self) -> OneNodeSlurm:
        for name in ("state", "spool", "munge"):
            (self.root / name).mkdir(parents=True)
        for folder in (self.root, self.root / "munge"):
            folder.chmod(0o711)  # munged refuses a socket in a folder that others may write to
        self._start_munge()
        CONFIG.parent.mkdir(parents=True, exist_ok=True)
        CONFIG.write_text(MARK + _TEMPLATE.format(host=self.host, root=self.root))
        try:
            subprocess.run(["slurmctld", "-i"], check=True, timeout=30)
            subprocess.run(["slurmd", "-N", self.host], check=True, timeout=30)
            self._wait_until_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scontrol", "shutdown"], timeout=30, capture_output=True, check=False)
        time.sleep(0.5)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.root / name
            if path.is_file() and (text := path.read_text().strip()):
                try:
                    os.kill(int(text), 15)
                except ProcessLookupError:
                    continue
        CONFIG.unlink(missing_ok=True)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        named = [f"--{option}={folder / name}" for option, name in options.items()]
        subprocess.run(["munged", "--force", *named], check=True, timeout=30, capture_output=True)

    def _wait_until_idle(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = subprocess.run(
                ["sinfo", "-h", "-o", "%T"], timeout=30, capture_output=True, text=True, check=False
            )
            if answer.stdout.strip() == "idle":
                return
            time.sleep(0.25)
        raise RuntimeError(f"the node is not idle after {seconds:.0f} s: {answer.stdout}{answer.stderr}")
