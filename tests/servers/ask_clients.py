#!/usr/bin/env python3
"""Asks FTP clients on loopback which spellings of a 227 reply they read: each spelling answers a PASV, and a client reads it
if it then connects to the announced port.

usage: ask_clients.py     prints a table: spelling, and for each client that is installed `reads` or nothing
"""
import shutil
import socket
import subprocess
import sys
import threading

SPELLINGS = [
    ("as the RFC has it", b"227 Entering Passive Mode (@)\r\n"),
    ("without parentheses", b"227 Entering Passive Mode @\r\n"),
    ("equals sign", b"227 =@\r\n"),
    ("LF alone at the end", b"227 Entering Passive Mode (@)\n"),
    ("blanks behind commas", b"227 Entering Passive Mode (@, )\r\n"),
    ("blanks before commas", b"227 Entering Passive Mode (@ ,)\r\n"),
    ("tabs behind commas", b"227 Entering Passive Mode (@,\t)\r\n"),
    ("leading zeros", b"227 Entering Passive Mode (@0)\r\n"),
    ("plus signs", b"227 Entering Passive Mode (@+)\r\n"),
    ("square brackets", b"227 Entering Passive Mode [@]\r\n"),
    ("text behind the last number", b"227 Entering Passive Mode (@x)\r\n"),
    ("a seventh number", b"227 Entering Passive Mode (@,7)\r\n"),
    ("a number before", b"227 Entering Passive Mode 2 (@)\r\n"),
    ("another list before", b"227 Entering Passive Mode (1,2) (@)\r\n"),
    ("tab behind the code", b"227\tEntering Passive Mode (@)\r\n"),
    ("nothing behind the code", b"227(@)\r\n"),
    ("underscore behind the code", b"227_(@)\r\n"),
    ("blank before the code", b" 227 Entering Passive Mode (@)\r\n"),
    ("NUL before the code", b"\x00227 Entering Passive Mode (@)\r\n"),
    ("CR before the code", b"\r227 Entering Passive Mode (@)\r\n"),
    ("NUL in the text", b"227 Entering\x00Passive Mode (@)\r\n"),
    ("CR in the text", b"227 Entering\rPassive Mode (@)\r\n"),
    ("CR 227 in another reply", b"200 ok\r227 Entering Passive Mode (@)\r\n"),
    ("in the first of two lines", b"227-Entering Passive Mode (@)\r\n227 done\r\n"),
    ("in a line between", b"227-Entering\r\n Passive Mode (@)\r\n227 done\r\n"),
    ("in the last of two lines", b"227-Entering\r\n227 Passive Mode (@)\r\n"),
    ("code 226", b"226 Entering Passive Mode (@)\r\n"),
    ("code 200", b"200 Entering Passive Mode (@)\r\n"),
    ("dots in the address", b"227 Entering Passive Mode (.)\r\n"),
    ("Telnet NOP in the numbers", b"227 Entering Passive Mode (@\xff\xf1)\r\n"),
]


def spelled(form, port):
    numbers = [127, 0, 0, 1, port >> 8, port & 255]
    plain = ",".join(map(str, numbers))
    for mark, text in (
        (b"@, ", ", ".join(map(str, numbers))), (b"@ ,", " ,".join(map(str, numbers))), (b"@,\t", ",\t".join(map(str, numbers))),
        (b"@0", ",".join(f"{n:03}" for n in numbers)), (b"@+", ",".join(f"+{n}" for n in numbers)),
        (b"@\xff\xf1", None), (b"@x", plain + "x"), (b"@,7", plain + ",7"),
    ):
        if mark in form:
            if text is None:
                return form.replace(mark, plain.encode().replace(b",", b",\xff\xf1"))
            return form.replace(mark, text.encode())
    if b"(.)" in form:
        return form.replace(b".", f"127.0.0.1,{port >> 8},{port & 255}".encode())
    return form.replace(b"@", plain.encode())


def serve(listener, form, found):
    data = socket.socket()
    data.bind(("127.0.0.1", 0))
    data.listen()
    data.settimeout(2.5)
    port = data.getsockname()[1]
    try:
        control, _ = listener.accept()
    except OSError:
        return
    control.settimeout(4)

    def wait():
        try:
            connection, _ = data.accept()
            found.append(True)
            connection.close()
        except OSError:
            pass

    waiting = threading.Thread(target=wait, daemon=True)
    try:
        control.sendall(b"220 hi\r\n")
        for line in control.makefile("rb"):
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"PASV":
                waiting.start()
                control.sendall(spelled(form, port))
            elif verb in (b"EPSV", b"FEAT", b"OPTS", b"MLSD", b"CLNT", b"AUTH"):
                control.sendall(b"500 no\r\n")
            elif verb == b"USER":
                control.sendall(b"331 pass\r\n")
            elif verb == b"PASS":
                control.sendall(b"230 in\r\n")
            elif verb == b"PWD":
                control.sendall(b'257 "/"\r\n')
            elif verb in (b"RETR", b"LIST", b"NLST"):
                control.sendall(b"150 here\r\n226 done\r\n")
            elif verb == b"QUIT":
                control.sendall(b"221 bye\r\n")
                break
            else:
                control.sendall(b"200 ok\r\n")
    except OSError:
        pass
    control.close()
    if waiting.ident:
        waiting.join(0.3)
    data.close()


FTPLIB = "import ftplib,sys;f=ftplib.FTP();f.connect('127.0.0.1',int(sys.argv[1]),3);f.login();f.retrbinary('RETR f',lambda b:0)"


def clients():
    if shutil.which("curl"):
        yield "curl", lambda port: ["curl", "-s", "-m", "3", "--disable-epsv", f"ftp://127.0.0.1:{port}/f"]
    if shutil.which("lftp"):
        yield "lftp", lambda port: ["lftp", "-c", f"set net:timeout 2;set net:max-retries 1;set ftp:prefer-epsv no;set ftp:use-mlsd no;open -u a,b 127.0.0.1:{port};get f -o /dev/null"]
    yield "ftplib", lambda port: [sys.executable, "-c", FTPLIB, str(port)]
    if shutil.which("wget"):
        yield "wget", lambda port: ["wget", "-q", "-t", "1", "-T", "3", "-O", "/dev/null", f"ftp://127.0.0.1:{port}/f"]


def main():
    asked = list(clients())
    print("| spelling | " + " | ".join(name for name, _ in asked) + " |")
    print("|---" * (len(asked) + 1) + "|")
    for name, form in SPELLINGS:
        row = []
        for _, command in asked:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.settimeout(4)
            found = []
            server = threading.Thread(target=serve, args=(listener, form, found), daemon=True)
            server.start()
            try:
                subprocess.run(command(listener.getsockname()[1]), capture_output=True, timeout=5)
            except subprocess.TimeoutExpired:
                pass
            server.join(1.5)
            listener.close()
            row.append("reads" if found else "")
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
