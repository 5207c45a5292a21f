"""What stands before a `KafkaBroker`: TLS, a password (SASL/PLAIN), and a network that can be cut.

The broker names its own address to clients; a test's dial leads them here all the same.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress

from tests.support.kafka_broker import KafkaBroker

_PRODUCE, _METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _INIT_PRODUCER, _SASL_AUTHENTICATE = 0, 3, 17, 18, 22, 36
_VERSIONS = {_PRODUCE: 7, _METADATA: 8, _SASL_HANDSHAKE: 1, _API_VERSIONS: 2, _INIT_PRODUCER: 1, _SASL_AUTHENTICATE: 1}
_AUTHENTICATION_FAILED = 58


class KafkaGate:
    """A context manager.

    Args:
        password: of the user `me`; None: nobody is asked.
        tls: its certificate.
    """

    def __init__(self, broker: KafkaBroker, password: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.broker = broker
        self.tokens: list[bytes] = []
        self._password = password
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closed = False
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> KafkaGate:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed = True
        self._listening.close()
        self.cut()

    def dial(self, url: str, port: int) -> socket.socket:
        """A `Dial` that leads here, whatever it is asked for."""
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def cut(self) -> None:
        """Break all connections."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError, struct.error):
            client = plain if self._tls is None else self._tls.wrap_socket(plain, server_side=True)
            if self._password is not None and not self._let_in(client):
                client.recv(1)  # a broker, too, lets the client read why before it closes
                client.close()
                return
            behind = socket.create_connection(("127.0.0.1", self.broker.port))
            self._open |= {client, behind}
            threading.Thread(target=_pass_on, args=(behind, client), daemon=True).start()
            _pass_on(client, behind)
        plain.close()

    def _let_in(self, client: socket.socket) -> bool:
        while True:
            (size,) = struct.unpack(">i", _exactly(client, 4))
            request = _exactly(client, size)
            kind, _, number, name = struct.unpack(">hhih", request[:10])
            body = request[10 + max(name, 0) :]
            if kind == _API_VERSIONS:
                known = [struct.pack(">hhh", one, 0, most) for one, most in _VERSIONS.items()]
                _answer(client, number, struct.pack(">hi", 0, len(known)) + b"".join(known) + struct.pack(">i", 0))
            elif kind == _SASL_HANDSHAKE:
                _answer(client, number, struct.pack(">hih", 0, 1, 5) + b"PLAIN")
            elif kind == _SASL_AUTHENTICATE:
                self.tokens.append(body[4:])
                well = body[4:] == b"me\0me\0%b" % (self._password or "").encode()
                error = struct.pack(">hh", 0, -1) if well else struct.pack(">hh", _AUTHENTICATION_FAILED, 5) + b"wrong"
                _answer(client, number, error + struct.pack(">iq", 0, 0))
                return well
            else:
                return False


def _exactly(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = client.recv(size - len(found))
        if not more:
            raise OSError("the client left")
        found += more
    return found


def _answer(client: socket.socket, number: int, body: bytes) -> None:
    client.sendall(struct.pack(">ii", 4 + len(body), number) + body)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
