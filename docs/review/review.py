#!/usr/bin/env python3
"""A review operator in a few lines, without any library: NATS speaks text.

    python3 review.py nats://review:PASSWORD@HOST:4222 [OPERATORS]

Takes each picture once among all operators of the same group, and says of
black ones that they are black. Put a model in the place of look().
"""
import json, socket, sys
from urllib.parse import urlsplit


def look(picture, jpeg):
    """Gives the labels that the picture deserves, with scores from 0 to 1."""
    return {"black": picture.get("black", 0.0)}


def main(url, group="review"):
    at = urlsplit(url)
    nats = socket.create_connection((at.hostname, at.port or 4222))
    read = nats.makefile("rb")
    info = {"user": at.username, "pass": at.password, "headers": True, "verbose": False, "pedantic": False, "name": "review.py", "lang": "python", "version": "1"}
    nats.sendall(b"CONNECT %s\r\nSUB pictures.*.* %s 1\r\nPING\r\n" % (json.dumps(info).encode(), group.encode()))
    for line in read:
        op = line.split()
        if line.startswith(b"PING"):
            nats.sendall(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            sys.exit("the bus says: " + line.decode().strip())
        elif line.startswith(b"PONG"):
            print("ready", flush=True)
        elif line.startswith(b"HMSG"):  # HMSG subject sid [reply] header-bytes all-bytes
            head, size = int(op[-2]), int(op[-1])
            data = read.read(size + 2)[:-2]
            headers = dict(h.split(": ", 1) if ": " in h else h.split(":", 1) for h in data[:head].decode().split("\r\n")[1:] if h)
            picture = json.loads(headers["Spillway-Picture"])
            for label, score in look(picture, data[head:]).items():
                verdict = json.dumps({"label": label, "score": score, "model": "review.py 1", "wall_us": picture["wall_us"]}).encode()
                subject = "verdicts.%s.%s" % (picture["app"], picture["stream"])
                nats.sendall(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(verdict), verdict))


if __name__ == "__main__":
    main(*sys.argv[1:])
