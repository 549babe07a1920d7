"""An MQTT 5 client from the standard (OASIS MQTT 5.0) and Python's own library alone, for
enhanced authentication, which paho cannot do.

It takes one step per line on standard input, a JSON object with `do`, and answers each with one line:
what has come from the broker, or what was done. It is strict: a byte that the standard does not
allow where it stands ends the program with a message.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import time

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
PINGREQ, PINGRESP, DISCONNECT, AUTH = 12, 13, 14, 15

# Section 2.2.2.2: how a property is written, what it is called, and in which packets from a server it may stand.
PROPERTIES = {
    0x01: ("byte", "payload_format_indicator", {PUBLISH}),
    0x02: ("four", "message_expiry_interval", {PUBLISH}),
    0x03: ("text", "content_type", {PUBLISH}),
    0x08: ("text", "response_topic", {PUBLISH}),
    0x09: ("data", "correlation_data", {PUBLISH}),
    0x0B: ("variable", "subscription_identifier", {PUBLISH}),
    0x11: ("four", "session_expiry_interval", {CONNACK}),
    0x12: ("text", "assigned_client_identifier", {CONNACK}),
    0x13: ("two", "server_keep_alive", {CONNACK}),
    0x15: ("text", "authentication_method", {CONNACK, AUTH}),
    0x16: ("data", "authentication_data", {CONNACK, AUTH}),
    0x1A: ("text", "response_information", {CONNACK}),
    0x1C: ("text", "server_reference", {CONNACK, DISCONNECT}),
    0x1F: ("text", "reason_string", {CONNACK, PUBACK, SUBACK, DISCONNECT, AUTH}),
    0x21: ("two", "receive_maximum", {CONNACK}),
    0x22: ("two", "topic_alias_maximum", {CONNACK}),
    0x23: ("two", "topic_alias", {PUBLISH}),
    0x24: ("byte", "maximum_qos", {CONNACK}),
    0x25: ("byte", "retain_available", {CONNACK}),
    0x26: ("pair", "user_property", {CONNACK, PUBLISH, PUBACK, SUBACK, DISCONNECT, AUTH}),
    0x27: ("four", "maximum_packet_size", {CONNACK}),
    0x28: ("byte", "wildcard_subscription_available", {CONNACK}),
    0x29: ("byte", "subscription_identifier_available", {CONNACK}),
    0x2A: ("byte", "shared_subscription_available", {CONNACK}),
}

# Section 2.4 and the tables of each packet: what a server may say.
REASONS = {
    CONNACK: {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    SUBACK: {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    DISCONNECT: {0, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)},
    AUTH: {0, 0x18},
}


class Malformed(Exception):
    """The broker has sent what it must not."""


class Reader:
    """Takes fields off the bytes of one packet."""

    def __init__(self, data):
        self.data = data

    def take(self, length):
        if length > len(self.data):
            raise Malformed(f"{length} bytes wanted, {len(self.data)} left")
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def byte(self):
        return self.take(1)[0]

    def two(self):
        return struct.unpack("!H", self.take(2))[0]

    def four(self):
        return struct.unpack("!I", self.take(4))[0]

    def data_field(self):
        return self.take(self.two())

    def text(self):
        text = self.data_field().decode("utf-8")  # strict: no surrogates, nothing overlong
        if "\0" in text:
            raise Malformed("U+0000 in a string")
        return text

    def variable(self):
        value = 0
        for position in range(4):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if position and byte == 0:
                    raise Malformed("a number that is longer than it need be")
                return value
        raise Malformed("a number of more than four bytes")

    def properties(self, packet):
        inner, found = Reader(self.take(self.variable())), {}
        while inner.data:
            identifier = inner.variable()
            if identifier not in PROPERTIES:
                raise Malformed(f"property 0x{identifier:02x} does not exist")
            form, name, packets = PROPERTIES[identifier]
            if packet not in packets:
                raise Malformed(f"{name} in a packet of type {packet}")
            if form == "pair":
                found.setdefault(name, []).append([inner.text(), inner.text()])
                continue
            if name in found:
                raise Malformed(f"{name} stands twice")
            found[name] = inner.data_field().hex() if form == "data" else getattr(inner, form)()
        return found

    def end(self):
        if self.data:
            raise Malformed(f"{len(self.data)} bytes too many")


def variable(value):
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def field(content):
    if isinstance(content, str):
        content = content.encode()
    return struct.pack("!H", len(content)) + content


def properties(step):
    """The properties that a step names."""
    out = b""
    if step.get("session_expiry_s") is not None:
        out += b"\x11" + struct.pack("!I", step["session_expiry_s"])
    if step.get("method") is not None:
        out += b"\x15" + field(step["method"])
    if step.get("data") is not None:
        out += b"\x16" + field(step["data"])
    if step.get("receive_maximum") is not None:
        out += b"\x21" + struct.pack("!H", step["receive_maximum"])
    return variable(len(out)) + out


class WebSocket:
    """A WebSocket (RFC 6455) that looks like a socket."""

    def __init__(self, inner):
        self.inner, self.buffer, key = inner, b"", base64.b64encode(os.urandom(16))
        inner.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        status, *lines = head.split(b"\r\n")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines)}
        if status.split()[1] != b"101" or headers.get(b"sec-websocket-accept") != accept:
            raise Malformed(f"no WebSocket: {head!r}")
        if headers.get(b"sec-websocket-protocol") != b"mqtt":
            raise Malformed("the broker does not say that it speaks MQTT")

    def fill(self):
        received = self.inner.recv(65536)
        if not received:
            raise ConnectionResetError
        self.buffer += received

    def settimeout(self, left):
        self.inner.settimeout(left)

    def sendall(self, data):
        mask, length = os.urandom(4), len(data)
        size = bytes([0x80 | length]) if length < 126 else bytes([0xFE]) + struct.pack("!H", length)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.inner.sendall(b"\x82" + size + mask + masked)

    def recv(self, _size):
        """The content of the next binary frame, nothing after the last."""
        while True:
            frame = self.frame()
            if frame is None:
                self.fill()
                continue
            opcode, content = frame
            if opcode == 8:
                return b""
            if opcode not in (0, 2):
                raise Malformed(f"a frame of type {opcode}")
            if content:
                return content

    def frame(self):
        reader = Reader(self.buffer)
        try:
            first_byte, length = reader.byte(), reader.byte()
            if length > 127 or first_byte & 0x70:
                raise ValueError(f"a frame that begins with 0x{first_byte:02x} 0x{length:02x}")
            if length == 126:
                length = reader.two()
            elif length == 127:
                length = struct.unpack("!Q", reader.take(8))[0]
            content = reader.take(length)
        except Malformed:
            return None
        self.buffer = reader.data
        return first_byte & 0x0F, content


class Client:
    """One connection."""

    def __init__(self, step):
        self.socket = socket.create_connection(("127.0.0.1", step["port"]))
        self.buffer = b""
        if step.get("authority"):
            context = ssl.create_default_context(cafile=step["authority"])
            if step.get("certificate"):
                context.load_cert_chain(step["certificate"], step["key"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        if step.get("websocket"):
            self.socket = WebSocket(self.socket)

    def send(self, first_byte, body):
        self.socket.sendall(bytes([first_byte]) + variable(len(body)) + body)

    def connect(self, step):
        will, username, password = step.get("will"), step.get("username"), step.get("password")
        flags = 0x02 if step.get("clean_start", True) else 0
        flags |= (0x0C if will else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
        body = field("MQTT") + bytes([5, flags]) + struct.pack("!H", 60) + properties(step) + field(step["client_id"])
        if will:
            body += b"\0" + field(will["topic"]) + field(will["payload"])
        for content in (username, password):
            if content is not None:
                body += field(content)
        self.send(0x10, body)

    def auth(self, step):
        self.send(0xF0, bytes([step.get("reason", 0x19)]) + properties(step))

    def subscribe(self, step):
        self.send(0x82, struct.pack("!H", step["id"]) + b"\0" + field(step["filter"]) + bytes([step.get("qos", 0)]))

    def publish(self, step):
        self.send(0x32, field(step["topic"]) + struct.pack("!H", step["id"]) + b"\0" + step["payload"].encode())

    def acknowledge(self, step):
        self.send(0x40, struct.pack("!H", step["id"]))

    def ping(self, _step):
        self.send(0xC0, b"")

    def raw(self, step):
        self.socket.sendall(bytes.fromhex(step["bytes"]))

    def receive(self, wait_s):
        """The next packet, `closed`, or `nothing` within that time."""
        deadline = time.monotonic() + wait_s
        while True:
            packet = self.whole_packet()
            if packet is not None:
                return decoded(*packet)
            left = deadline - time.monotonic()
            if left <= 0:
                return {"packet": "nothing"}
            self.socket.settimeout(left)
            try:
                received = self.socket.recv(65536)
            except TimeoutError:
                return {"packet": "nothing"}
            except (ConnectionResetError, ssl.SSLError):
                received = b""
            if not received:
                if self.buffer:
                    raise Malformed(f"it ends within a packet: {self.buffer.hex()}")
                return {"packet": "closed"}
            self.buffer += received

    def whole_packet(self):
        if len(self.buffer) < 2:
            return None
        reader = Reader(self.buffer[1:])
        try:
            length = reader.variable()
        except Malformed:
            if len(self.buffer) < 5:
                return None
            raise
        if len(reader.data) < length:
            return None
        first_byte, self.buffer = self.buffer[0], reader.data[length:]
        return first_byte, reader.data[:length]


def decoded(first_byte, body):
    """One packet from a server, all of it."""
    packet, flags, reader = first_byte >> 4, first_byte & 0x0F, Reader(body)
    if packet != PUBLISH and flags != 0:
        raise Malformed(f"flags {flags} in a packet of type {packet}")
    if packet == CONNACK:
        acknowledge, reason = reader.byte(), reader.byte()
        if acknowledge > 1 or (reason and acknowledge):
            raise Malformed(f"acknowledge flags {acknowledge}, reason {reason}")
        out = {"packet": "CONNACK", "session_present": bool(acknowledge), "reason": reason}
        out["properties"] = reader.properties(packet)
    elif packet == PUBLISH:
        qos, topic = flags >> 1 & 3, reader.text()
        if qos == 3 or (qos == 0 and flags & 8) or "+" in topic or "#" in topic:
            raise Malformed(f"PUBLISH with flags {flags} to {topic}")
        out = {"packet": "PUBLISH", "topic": topic, "qos": qos, "retain": bool(flags & 1), "dup": bool(flags & 8)}
        out["id"] = reader.two() if qos else None
        if out["id"] == 0:
            raise Malformed("packet identifier 0")
        out["properties"] = reader.properties(packet)
        out["payload"] = reader.take(len(reader.data)).decode()
    elif packet == PUBACK:
        out = {"packet": "PUBACK", "id": reader.two(), "reason": reader.byte() if reader.data else 0}
        out["properties"] = reader.properties(packet) if reader.data else {}
    elif packet == SUBACK:
        out = {"packet": "SUBACK", "id": reader.two(), "properties": reader.properties(packet)}
        out["reason"] = reader.byte()  # one filter is asked for at a time
    elif packet in (DISCONNECT, AUTH):
        out = {"packet": "DISCONNECT" if packet == DISCONNECT else "AUTH"}
        out["reason"] = reader.byte() if reader.data else 0
        out["properties"] = reader.properties(packet) if reader.data else {}
    elif packet == PINGRESP:
        out = {"packet": "PINGRESP"}
    else:
        raise Malformed(f"a packet of type {packet} from a server")
    reader.end()
    if packet in REASONS and out["reason"] not in REASONS[packet]:
        raise Malformed(f"{out['packet']} with reason 0x{out['reason']:02x}")
    if packet == AUTH and "authentication_method" not in out["properties"]:
        raise Malformed("AUTH without a method")
    return out


def main():
    client = None
    for line in sys.stdin:
        step = json.loads(line)
        action, answer = step["do"], {"packet": "sent"}
        if action == "connect":
            client = Client(step)
        if action == "receive":
            answer = client.receive(step["wait_s"])
        else:
            getattr(client, action)(step)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
