# Talks to the URL given and says how it went.
import os
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

with connect(sys.argv[1], subprotocols=["one", "two"], max_size=None, open_timeout=8, proxy=None) as ws:
    print("protocol", ws.subprotocol)
    print("extensions", ", ".join(extension.name for extension in ws.protocol.extensions))
    for text in ["hello", "", "x" * 125, "ü" * 63, "z" * (1 << 20)]:
        ws.send(text)
        assert ws.recv(timeout=8) == text
    for length in [0, 1, 125, 126, 65535, 65536, 1 << 20]:
        sent = os.urandom(length)
        ws.send([sent, b"", sent])
        assert ws.recv(timeout=8) == sent + sent
    ws.ping("are you there").wait(8)
    ws.send("leave")
    try:
        ws.recv(timeout=8)
    except ConnectionClosed as closed:
        print("closed", closed.rcvd.code, closed.rcvd.reason)
