"""What a terminal sees of a file system: this machine's programs, and an /etc of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gatekeeper.terminals.runner.sandbox.interface import HOME

USER_ID: Final = 1000
"""Inside."""
HOSTNAME: Final = "terminal"
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
TEMPORARY: Final = "/tmp"  # noqa: S108 - inside: its own
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - inside: its own
DEFAULTS: Final = {
    "HOME": HOME,
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/bash",
    "PATH": PATH,
    "LANG": "C.UTF-8",
    "TERM": "xterm-256color",
}
"""Of the environment, where it was not given."""

_PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SHOWN: Final = (
    # How programs are found and linked.
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    # Whom TLS trusts: certificates alone, never the folder of keys beside them.
    *("ssl/certs", "ssl/openssl.cnf", "ca-certificates.conf", "pki/tls/certs"),
    *("pki/ca-trust/extracted", "pki/tls/openssl.cnf", "crypto-policies"),
    # How terminals, shells and languages behave.
    *("terminfo", "inputrc", "zsh", "fish", "vim", "nanorc", "lesskey", "skel"),
    *("localtime", "timezone", "locale.conf", "locale.alias", "services", "protocols"),
    *("mime.types", "magic", "os-release", "debian_version", "postgresql-common", "perl"),
)
"""Of the host's /etc, where it has them: nothing in it is a secret."""
SHOWN_WITH_NETWORK: Final = ("resolv.conf", "hosts", "gai.conf", "host.conf")

_PROFILE: Final = f"""\
export PATH="${{PATH:-{PATH}}}"
[ -n "$BASH" ] && [ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
"""
_BASHRC: Final = r"""
case $- in *i*) ;; *) return ;; esac
shopt -s checkwinsize
PS1='\[\e[32m\]\u@\h\[\e[0m\]:\[\e[34m\]\w\[\e[0m\]\$ '
alias ls='ls --color=auto' grep='grep --color=auto'
"""
WRITTEN: Final = {
    "passwd": (
        f"user:x:{USER_ID}:{USER_ID}:user:{HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": f"user:x:{USER_ID}:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "hostname": f"{HOSTNAME}\n",
    "profile": _PROFILE,
    "bash.bashrc": _BASHRC,
}
HOSTS: Final = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n"
"""Where there is no network."""


def program_arguments(root: Path = Path("/")) -> list[str]:
    """Return the arguments that show programs and libraries, as this machine lays them out."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _PROGRAMS:
        path = root / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), f"/{name}"]
        elif path.is_dir():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    return arguments


def etc_arguments(*, network: bool, root: Path = Path("/")) -> list[str]:
    names = (*SHOWN, *SHOWN_WITH_NETWORK) if network else SHOWN
    return [
        argument
        for name in names
        if (root / "etc" / name).exists()
        for argument in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    ]


def written_files(*, network: bool) -> dict[str, str]:
    """Return the files of /etc that are not the host's: path and content."""
    files = {f"/etc/{name}": text for name, text in WRITTEN.items()}
    if not network:
        files["/etc/hosts"] = HOSTS
    return files
