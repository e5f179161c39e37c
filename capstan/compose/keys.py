# SPDX-License-Identifier: BSD-2-Clause
"""The keys of a service that are not honoured, and what is said about each."""

from __future__ import annotations

# Keys that change nothing here, because a machine is that way anyway, or it is of no matter.
NO_EFFECT = {
    "expose", "init", "attach", "tmpfs", "annotations", "privileged", "isolation", "storage_opt",
}  # fmt: skip
# Limits and rights of a container on its host: a machine of its own has neither.
WARNED = {
    "user": "the program is root in a machine of its own",
    "group_add": "the program is root in a machine of its own",
    "cap_add": "a machine has no capabilities to add",
    "cap_drop": "a machine keeps the program apart from the host",
    "security_opt": "a machine keeps the program apart from the host",
    "userns_mode": "a machine keeps the program apart from the host",
    "read_only": "files can be written; they are as in the image at the next start",
    "ulimits": "not set",
    "sysctls": "not set",
    "shm_size": "/dev/shm has what the machine has",
    "mem_reservation": "memory is what mem_limit says",
    "memswap_limit": "a machine does not swap",
    "mem_swappiness": "a machine does not swap",
    "cpu_shares": "not weighed",
    "cpu_quota": "not limited",
    "cpu_period": "not limited",
    "cpuset": "not pinned",
    "cpu_percent": "not limited",
    "pids_limit": "not limited",
    "oom_score_adj": "not set",
    "oom_kill_disable": "not set",
    "blkio_config": "not limited",
    "logging": "`capstan compose logs` has the output",
    "tty": "the output goes to the log",
    "stdin_open": "the input is empty",
    "dns_search": "not set",
    "dns_opt": "not set",
    "domainname": "not set",
    "mac_address": "chosen by the network",
    "stop_signal": "the program is asked with SIGTERM",
    "cgroup": "not used",
    "cgroup_parent": "not used",
    "develop": "files are not watched",
    "label_file": "not read",
}
REFUSED = {
    "devices": "a machine has no devices of the host",
    "device_cgroup_rules": "a machine has no devices of the host",
    "gpus": "a machine has no devices of the host",
    "pid": "a machine's processes are its own",
    "ipc": "a machine shares no memory with others",
    "uts": "a machine's host name is its own",
    "volumes_from": "there are no volumes in this version",
    "external_links": "put both services into one project",
    "runtime": "there is one: QEMU",
    "credential_spec": "Windows only",
    "provider": "not supported",
    "models": "not supported",
    "post_start": "no command can be run beside the program",
    "pre_stop": "no command can be run beside the program",
    "use_api_socket": "there is no daemon",
}
