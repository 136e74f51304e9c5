"""The floor: what the kernel takes for the same bytes, with nothing but a loop of send() around it.

It answers any handshake, and passes on what a client says in a frame as long as ByteChat's. All
frames that have come in go out with one send() to each client.
"""

import resource
import select
import socket
import sys
from urllib.parse import parse_qs, urlsplit

#: What a message of ByteChat has beside its text.
ENVELOPE = 204


def frame(text):
    payload = text + b" " * ENVELOPE
    size = len(payload)
    head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + payload


def take(buffer):
    """The whole frames, whose mask is zero, off the head of the buffer."""
    while len(buffer) >= 6:
        size, head = buffer[1] & 127, 6
        if size == 126:
            size, head = int.from_bytes(buffer[2:4], "big"), 8
        if len(buffer) < head + size:
            return
        yield bytes(buffer[head : head + size])
        del buffer[: head + size]


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients, rooms = {}, {}
    while True:
        said = {}
        for fd, _ in epoll.poll(-1, 1024):
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[sock.fileno()] = (sock, bytearray(), [])
                epoll.register(sock, select.EPOLLIN)
                continue
            sock, buffer, joined = clients[fd]
            try:
                data = sock.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                for room in joined:
                    rooms[room].discard(sock)
                del clients[fd]
                epoll.unregister(fd)
                sock.close()
                continue
            buffer += data
            if not joined:
                if b"\r\n\r\n" in buffer:
                    path = buffer.split(b" ", 2)[1].decode()
                    buffer.clear()
                    joined += parse_qs(urlsplit(path).query)["rooms"][0].split(",")
                    for room in joined:
                        rooms.setdefault(room, set()).add(sock)
                    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                continue
            for message in take(buffer):
                room, _, text = message.partition(b" ")
                said.setdefault(room.decode(), []).append(frame(text))
        for room, frames in said.items():
            together = b"".join(frames)
            for sock in list(rooms[room]):
                try:
                    sock.sendall(together)
                except OSError:
                    rooms[room].discard(sock)


main()
