#!/usr/bin/env python3
"""Asks real FTP servers which odd spellings of PORT and EPRT they accept.

usage: ask.py [--root DIR] [--bytes] [SERVER...]

Starts each server on loopback, logs in, sends a spelling with the address of a listening socket, then LIST and QUIT. A
spelling counts as read if the server connects to that socket. Servers: vsftpd, proftpd, pure-ftpd, pyftpdlib. A server that
is not installed, or that does not start, is named and skipped; --root DIR finds servers below DIR/usr/sbin (packages that
were unpacked with dpkg -x). Servers are ended by their process id.
"""

import argparse
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

USER, PASSWORD = "reader", "secret"
TELNET_NOP = b"\xff\xf1"


class Skipped(Exception):
    """A server that cannot be asked."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name, root):
    places = [os.path.join(root, "usr", part) for part in ("sbin", "bin")] if root else []
    found = shutil.which(name, path=os.pathsep.join(places + [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if not found:
        raise Skipped("not installed")
    return found


def version(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return " ".join((result.stdout + result.stderr).split())


class Server:
    """A running server and a login that it accepts."""

    def __init__(self, name, folder, root):
        self.name, self.folder, self.port = name, folder, free_port()
        self.login = (USER, PASSWORD)
        os.makedirs(f"{folder}/home", exist_ok=True)
        os.chmod(folder, 0o755)
        command, self.version = getattr(self, name.replace("-", "_"))(root)
        self.log = open(f"{folder}/log", "wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )
        self.wait()

    def file(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def wait(self):
        for _ in range(50):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        self.end()
        with open(f"{self.folder}/log", errors="replace") as log:
            raise Skipped("does not start: " + " ".join(log.read().split())[:200])

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.log.close()

    def vsftpd(self, root):
        self.login = ("anonymous", "x")
        users = [user for user in pwd.getpwall() if user.pw_uid == (os.getuid() or user.pw_uid or 1)]
        owner = next((user.pw_name for user in users if user.pw_uid and os.path.isdir(user.pw_dir)), "nobody")
        os.makedirs(f"{self.folder}/empty", exist_ok=True)
        os.makedirs(f"{self.folder}/anon", mode=0o555, exist_ok=True)
        settings = {
            "listen": "YES", "listen_address": "127.0.0.1", "listen_port": self.port, "background": "NO",
            "anonymous_enable": "YES", "local_enable": "NO", "ftp_username": owner,
            "anon_root": f"{self.folder}/anon", "secure_chroot_dir": f"{self.folder}/empty", "seccomp_sandbox": "NO",
            "connect_from_port_20": "NO", "isolate": "NO", "isolate_network": "NO",
        }
        if os.getuid() != 0:
            settings["run_as_launching_user"] = "YES"
        path = self.file("conf", "".join(f"{key}={value}\n" for key, value in settings.items()))
        binary = program("vsftpd", root)
        return [binary, path], version("sh", "-c", f"{binary} -v 0>&1").split()[-1]

    def proftpd(self, root):
        binary = program("proftpd", root)
        ids = (os.getuid() or 65534, os.getgid() or 65534)
        hashed = version("openssl", "passwd", "-1", PASSWORD)
        users = self.file("users", f"{USER}:{hashed}:{ids[0]}:{ids[1]}::{self.folder}/home:/bin/sh\n")
        shutil.chown(f"{self.folder}/home", *ids) if os.getuid() == 0 else None
        owner = "User nobody\nGroup nogroup\n" if os.getuid() == 0 else ""
        path = self.file("conf", (
            f"ServerType standalone\nDefaultAddress 127.0.0.1\nPort {self.port}\nUseIPv6 off\nDefaultServer on\n"
            f"AuthOrder mod_auth_file.c\nAuthUserFile {users}\nRequireValidShell off\nUseReverseDNS off\n{owner}"
            f"PidFile {self.folder}/pid\nScoreboardFile {self.folder}/score\nDelayEngine off\nWtmpLog off\n"
            f"ControlsEngine off\nSystemLog none\nTransferLog none\nMaxInstances 50\n"
        ).replace("DelayEngine off\n", "").replace("ControlsEngine off\n", ""))
        return [binary, "-n", "-q", "-c", path], version(binary, "-v").split()[-1]

    def pure_ftpd(self, root):
        binary, tool = program("pure-ftpd", root), program("pure-pw", root)
        ids = (os.getuid() or 65534, os.getgid() or 65534)
        if os.getuid() == 0:
            shutil.chown(f"{self.folder}/home", *ids)
        # A cheap hash: its default takes a second for each login.
        hashed = version("openssl", "passwd", "-1", PASSWORD)
        users = self.file("passwd", f"{USER}:{hashed}:{ids[0]}:{ids[1]}::{self.folder}/home/./::::::::::::\n")
        made = subprocess.run([tool, "mkdb", f"{self.folder}/pdb", "-f", users], capture_output=True, text=True, check=False)
        if made.returncode:
            raise Skipped("pure-pw: " + " ".join(made.stderr.split()))
        command = [binary, "-S", f"127.0.0.1,{self.port}", "-l", f"puredb:{self.folder}/pdb", "-u", "1", "-H", "-4",
                   "-C", "50", "-c", "100", "-g", f"{self.folder}/pid"]
        return command, version(binary, "--help").split()[1].lstrip("v")

    def pyftpdlib(self, _root):
        try:
            import pyftpdlib  # noqa: F401
        except ImportError:
            raise Skipped("not installed (pip install pyftpdlib)") from None
        path = self.file("server.py", (
            "from pyftpdlib.authorizers import DummyAuthorizer\nfrom pyftpdlib.handlers import FTPHandler\n"
            "from pyftpdlib.servers import FTPServer\na = DummyAuthorizer()\n"
            f"a.add_user({USER!r}, {PASSWORD!r}, {self.folder + '/home'!r})\n"
            f"FTPHandler.authorizer = a\nFTPServer(('127.0.0.1', {self.port}), FTPHandler).serve_forever()\n"))
        return [sys.executable, path], pyftpdlib.__ver__

    def reads(self, spelling):
        """True if the server connects to the endpoint in the spelling; None if the session does not come that far."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(4)
            control = socket.create_connection(("127.0.0.1", self.port), timeout=10)
            control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with control:
                replies = control.makefile("rb")
                final(replies)
                for line in (f"USER {self.login[0]}\r\n", f"PASS {self.login[1]}\r\n"):
                    control.sendall(line.encode())
                    code = final(replies)
                if code != b"230":
                    return None
                control.sendall(spell(spelling, listener.getsockname()[1]) + b"LIST\r\nQUIT\r\n")
                return came(listener, control)


def came(listener, control):
    """True if the server connects before it ends the control connection, or falls silent."""
    while True:
        ready, _, _ = select.select([listener, control], [], [], 1.5)
        if listener in ready:
            listener.accept()[0].close()
            return True
        try:
            if not ready or not control.recv(4096):
                return bool(select.select([listener], [], [], 0)[0])
        except OSError:
            return bool(select.select([listener], [], [], 0)[0])


def final(replies):
    """The code of the next whole reply."""
    while True:
        line = replies.readline()
        if not line or line[3:4] == b" ":
            return line[:3]


def spell(spelling, port):
    numbers = b"127,0,0,1,%d,%d" % (port >> 8, port & 255)
    return spelling.replace(b"@", numbers).replace(b"$", b"%d" % port).replace(b"#", b"%d" % (port >> 8)).replace(
        b"~", b"%d" % (port & 255))


# @ is the six numbers, $ the port, # and ~ the port's two bytes.
SPELLINGS = {
    "as the RFC has it": b"PORT @\r\n",
    "lower case": b"port @\r\n",
    "LF alone at the end": b"PORT @\n",
    "CR alone at the end": b"PORT @\r",
    "CR LF LF at the end": b"PORT @\r\n\n",
    "CR CR LF at the end": b"PORT @\r\r\n",
    "CR NUL at the end": b"PORT @\r\0",
    "NUL before CR LF": b"PORT @\0\r\n",
    "NUL before the command": b"\0PORT @\r\n",
    "two NULs before the command": b"\0\0PORT @\r\n",
    "NUL in the verb": b"PO\0RT @\r\n",
    "NUL for the blank": b"PORT\0@\r\n",
    "NUL in the numbers": b"PORT 127,0\0,0,1,#,~\r\n",
    "NUL, then text": b"PORT @\0text\r\n",
    "NOOP CR PORT": b"NOOP\rPORT @\r\n",
    "NOOP NUL PORT": b"NOOP\0PORT @\r\n",
    "NOOP CR NUL PORT": b"NOOP\r\0PORT @\r\n",
    "NOOP LF PORT": b"NOOP\nPORT @\r\n",
    "NOOP VT PORT": b"NOOP\x0bPORT @\r\n",
    "NOOP FF PORT": b"NOOP\x0cPORT @\r\n",
    "NOOP semicolon PORT": b"NOOP;PORT @\r\n",
    "CR before the command": b"\rPORT @\r\n",
    "LF before the command": b"\nPORT @\r\n",
    "blank before the command": b" PORT @\r\n",
    "tab before the command": b"\tPORT @\r\n",
    "VT before the command": b"\x0bPORT @\r\n",
    "two blanks behind the verb": b"PORT  @\r\n",
    "tab behind the verb": b"PORT\t@\r\n",
    "VT behind the verb": b"PORT\x0b@\r\n",
    "FF behind the verb": b"PORT\x0c@\r\n",
    "blank and tab behind the verb": b"PORT \t@\r\n",
    "nothing behind the verb": b"PORT@\r\n",
    "comma behind the verb": b"PORT,@\r\n",
    "parentheses": b"PORT (@)\r\n",
    "quotes": b"PORT \"@\"\r\n",
    "blank at the end": b"PORT @ \r\n",
    "tab at the end": b"PORT @\t\r\n",
    "text at the end": b"PORT @ text\r\n",
    "letters behind the last number": b"PORT @x\r\n",
    "comma at the end": b"PORT @,\r\n",
    "a seventh number": b"PORT @,1\r\n",
    "blanks around commas": b"PORT 127 , 0 , 0 , 1 , # , ~\r\n",
    "blank behind each comma": b"PORT 127, 0, 0, 1, #, ~\r\n",
    "tab behind each comma": b"PORT 127,\t0,\t0,\t1,\t#,\t~\r\n",
    "leading zeros": b"PORT 127,000,00,01,#,~\r\n",
    "four digits": b"PORT 0127,0,0,1,#,~\r\n",
    "many zeros": b"PORT 127,0000000000000000000,0,1,#,~\r\n",
    "plus signs": b"PORT +127,+0,+0,+1,+#,+~\r\n",
    "minus zero": b"PORT 127,-0,0,1,#,~\r\n",
    "numbers above 255": b"PORT 383,256,0,1,#,~\r\n",
    "dots in the address": b"PORT 127.0.0.1,#,~\r\n",
    "semicolons": b"PORT 127;0;0;1;#;~\r\n",
    "empty numbers": b"PORT 127,,,1,#,~\r\n",
    "underscores": b"PORT 1_27,0,0,1,#,~\r\n",
    "hexadecimal": b"PORT 0x7f,0,0,1,#,~\r\n",
    "text before the numbers": b"PORT x @\r\n",
    "quoted verb": b"\"PORT\" @\r\n",
    "Telnet NOP before the command": TELNET_NOP + b"PORT @\r\n",
    "Telnet NOP in the verb": b"PO" + TELNET_NOP + b"RT @\r\n",
    "Telnet NOP in the numbers": b"PORT 127," + TELNET_NOP + b"0,0,1,#,~\r\n",
    "Telnet NOP before CR LF": b"PORT @" + TELNET_NOP + b"\r\n",
    "Telnet IP and DM before the command": b"\xff\xf4\xff\xf2PORT @\r\n",
    "Telnet DM alone before the command": b"\xf2PORT @\r\n",
    "Telnet DO before the command": b"\xff\xfd\x01PORT @\r\n",
    "Telnet DO in the verb": b"PO\xff\xfd\x01RT @\r\n",
    "Telnet WILL in the verb": b"PO\xff\xfb\x01RT @\r\n",
    "Telnet IAC IAC in the verb": b"PO\xff\xffRT @\r\n",
    "Telnet IAC IAC before the command": b"\xff\xffPORT @\r\n",
    "Telnet IAC alone in the verb": b"PO\xffRT @\r\n",
    "Telnet SB in the verb": b"PO\xff\xfa\x01x\xff\xf0RT @\r\n",
    "UTF-8's mark before the command": b"\xef\xbb\xbfPORT @\r\n",
    "no-break blank behind the verb": b"PORT\xa0@\r\n",
    "no-break blank behind the verb, UTF-8": b"PORT\xc2\xa0@\r\n",
    "a wide digit": "PORT １27,0,0,1,#,~\r\n".encode(),
    "an Arabic digit": "PORT 127,٠,0,1,#,~\r\n".encode(),
    "a wide letter": "ＰORT @\r\n".encode(),
    "DEL in the verb": b"PO\x7fRT @\r\n",
    "backspace in the verb": b"POX\bRT @\r\n",
    "EPRT": b"EPRT |1|127.0.0.1|$|\r\n",
    "EPRT, exclamation marks": b"EPRT !1!127.0.0.1!$!\r\n",
    "EPRT, digits around": b"EPRT 111127.0.0.11$1\r\n",
    "EPRT, blanks for delimiters": b"EPRT  1 127.0.0.1 $ \r\n",
    "EPRT, without the last delimiter": b"EPRT |1|127.0.0.1|$\r\n",
    "EPRT, text at the end": b"EPRT |1|127.0.0.1|$|x\r\n",
    "EPRT, mixed delimiters": b"EPRT |1!127.0.0.1!$!\r\n",
    "EPRT, blanks in the fields": b"EPRT | 1 | 127.0.0.1 | $ |\r\n",
    "EPRT, leading zeros": b"EPRT |01|127.0.0.1|0$|\r\n",
    "EPRT, zeros in the address": b"EPRT |1|127.000.000.001|$|\r\n",
    "EPRT, short address": b"EPRT |1|127.1|$|\r\n",
    "EPRT, address as one number": b"EPRT |1|2130706433|$|\r\n",
    "EPRT, name for the address": b"EPRT |1|localhost|$|\r\n",
    "EPRT, mapped address": b"EPRT |2|::ffff:127.0.0.1|$|\r\n",
    "EPRT, two blanks behind the verb": b"EPRT  |1|127.0.0.1|$|\r\n",
    "EPRT, tab behind the verb": b"EPRT\t|1|127.0.0.1|$|\r\n",
    "EPRT, lower case": b"eprt |1|127.0.0.1|$|\r\n",
    "EPRT, NUL before": b"\0EPRT |1|127.0.0.1|$|\r\n",
    "LPRT": b"LPRT 4,4,127,0,0,1,2,#,~\r\n",
    "LPRT, blanks behind commas": b"LPRT 4, 4, 127, 0, 0, 1, 2, #, ~\r\n",
}
# Where one byte of each value is put.
PLACES = {
    "byte before the command": b"%cPORT @\r\n",
    "byte in the verb": b"PO%cRT @\r\n",
    "byte for the blank": b"PORT%c@\r\n",
    "byte behind the blank": b"PORT %c@\r\n",
    "byte before a comma": b"PORT 127%c,0,0,1,#,~\r\n",
    "byte behind a comma": b"PORT 127,%c0,0,1,#,~\r\n",
    "byte in a number": b"PORT 1%c27,0,0,1,#,~\r\n",
    "byte for a comma": b"PORT 127%c0,0,1,#,~\r\n",
    "byte behind the numbers": b"PORT @%c\r\n",
    "byte between two commands": b"NOOP%cPORT @\r\n",
    "byte behind CR": b"NOOP\r%cPORT @\r\n",
    "byte before EPRT's argument": b"EPRT %c|1|127.0.0.1|$|\r\n",
    "byte before EPRT's address": b"EPRT |1|%c127.0.0.1|$|\r\n",
    "byte behind EPRT's address": b"EPRT |1|127.0.0.1%c|$|\r\n",
    "byte behind EPRT's argument": b"EPRT |1|127.0.0.1|$|%c\r\n",
}


def ranges(values):
    """Bytes as text, neighbours together."""
    parts, values = [], sorted(values)
    while values:
        last = first = values.pop(0)
        while values and values[0] == last + 1:
            last = values.pop(0)
        parts.append(f"{first:02x}" if first == last else f"{first:02x}-{last:02x}")
    return " ".join(parts) or "none"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--root", help="look for servers below this directory first")
    arguments.add_argument("--bytes", action="store_true", help="also put every byte in every place (slow)")
    arguments.add_argument("servers", nargs="*", default=["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib"])
    options = arguments.parse_args()
    asked, rows = [], {name: [] for name in SPELLINGS}
    places = {name: [] for name in PLACES}
    for name in options.servers:
        with tempfile.TemporaryDirectory(prefix="ftp-servers-", ignore_cleanup_errors=True) as folder:
            try:
                server = Server(name, folder, options.root)
            except Skipped as why:
                print(f"skipped: {name}: {why}", file=sys.stderr)
                continue
            try:
                if not server.reads(SPELLINGS["as the RFC has it"]):
                    print(f"skipped: {name}: does not read a plain PORT", file=sys.stderr)
                    continue
                asked.append(f"{name} ({server.version})")
                for label, spelling in SPELLINGS.items():
                    rows[label].append("reads" if server.reads(spelling) else "")
                for label, spelling in PLACES.items() if options.bytes else ():
                    put = [spelling.replace(b"%c", bytes([byte])) for byte in range(256)]
                    # The marks of a spelling are no bytes to put there.
                    read = [byte for byte in range(256) if byte not in b"@$#~" and server.reads(put[byte])]
                    places[label].append(ranges(read))
            finally:
                server.end()
    if not asked:
        print("nothing was asked: no server is there", file=sys.stderr)
        return
    print("| spelling | " + " | ".join(asked) + " |")
    print("|---|" + "---|" * len(asked))
    for label, row in rows.items():
        print(f"| {label} | " + " | ".join(row) + " |")
    for label, row in places.items() if options.bytes else ():
        print(f"| {label} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
