# Echoes every message, and closes with 4002 when it is asked to leave.
from websockets.sync.server import serve


def handle(ws):
    for message in ws:
        if message == "leave":
            ws.close(4002, "as you wish")
        else:
            ws.send(message)


def choose(ws, offered):
    return offered[0] if offered else None


with serve(handle, "127.0.0.1", 0, select_subprotocol=choose, max_size=None) as server:
    print("port", server.socket.getsockname()[1])
    server.serve_forever()
