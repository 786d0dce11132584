//! gRPC through Ravelin: a real client and a real server (Python's grpcio), every kind of call.

use std::process::Command;

use crate::harness::*;

/// A gRPC server with generic handlers: the messages are bytes, so nothing has to be generated.
const SERVER: &str = r#"
import sys, time
from concurrent import futures
import grpc

def unary(request, context):
    context.send_initial_metadata((("x-initial", "first"),))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-data-bin", b"\x00\xff"),
                                   ("x-asked", dict(context.invocation_metadata()).get("x-asked", "-"))))
    return b"echo " + request

def failing(request, context):
    context.set_trailing_metadata((("x-reason", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100% \u00e9")

def client_stream(requests, context):
    count = size = 0
    for request in requests:
        count += 1
        size += len(request)
    return f"{count} {size}".encode()

def server_stream(request, context):
    for n in range(int(request)):
        yield b"%d" % n + b"x" * 10_000

def breaks_off(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")

def chat(requests, context):
    for request in requests:
        yield b"re: " + request

def slow(request, context):
    time.sleep(30)
    return b"too late"

kinds = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "BreaksOff": grpc.unary_stream_rpc_method_handler(breaks_off),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", kinds),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("port", port)
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import sys, threading, queue
import grpc
channel = grpc.insecure_channel(TARGET, options=(("grpc.default_authority", "example.com"),))
call = lambda kind, name: getattr(channel, kind)("/test.Service/" + name)
unary = call("unary_unary", "Unary")
"#;

/// Runs a Python program that talks to a gRPC server through Ravelin; it fails by an exception.
fn grpc(more_toml: &str, program: &str) -> (Ravelin, String) {
    require("python3", &["-c", "import grpc"], "python3 -m pip install grpcio");
    let server = Python::run(SERVER);
    let url = format!("h2c://127.0.0.1:{}", server.port());
    let ravelin = Ravelin::start(&site_with("h2c = true", &[&url], more_toml));
    let mut command = Command::new("python3");
    let target = format!("TARGET = \"{}\"\n", ravelin.addr());
    command.args(["-c", &[&target, CLIENT, program].concat()]);
    let output = run_to_end(command);
    assert!(output.status.success(), "{}", printed(&output));
    let text = printed(&output);
    (ravelin, text)
}

#[test]
fn unary_calls_with_metadata_both_ways() {
    let program = r#"
for size in (0, 1, 100, 70_000, 1_000_000):
    request = b"x" * size
    response, context = unary.with_call(request, metadata=(("x-asked", "yes"),), timeout=10)
    assert response == b"echo " + request, len(response)
    assert ("x-initial", "first") in context.initial_metadata(), context.initial_metadata()
    trailing = dict(context.trailing_metadata())
    assert trailing["x-trailing"] == "last", trailing
    assert trailing["x-data-bin"] == b"\x00\xff", trailing
    assert trailing["x-asked"] == "yes", trailing
    assert context.code() == grpc.StatusCode.OK
"#;
    let (ravelin, _) = grpc("", program);
    ravelin.stdout.line_with(&["POST /test.Service/Unary HTTP/2.0", " 200 "]);
}

#[test]
fn errors_come_with_their_status_message_and_metadata() {
    let program = r#"
try:
    call("unary_unary", "Failing")(b"", timeout=10)
    sys.exit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "not now: 100% \u00e9", error.details()
    assert dict(error.trailing_metadata())["x-reason"] == "because", error.trailing_metadata()
try:
    call("unary_unary", "Nowhere")(b"", timeout=10)
    sys.exit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
responses = call("unary_stream", "BreaksOff")(b"", timeout=10)
assert next(responses) == b"one"
try:
    next(responses)
    sys.exit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DATA_LOSS, error
"#;
    grpc("", program);
}

#[test]
fn client_streaming() {
    let program = r#"
stream = call("stream_unary", "ClientStream")
assert stream(iter([]), timeout=10) == b"0 0"
assert stream((b"x" * n for n in range(300)), timeout=10) == b"300 44850"
assert stream((b"x" * 100_000 for n in range(50)), timeout=10) == b"50 5000000"
"#;
    grpc("", program);
}

#[test]
fn server_streaming() {
    let program = r#"
for count in (0, 1, 500):
    responses = list(call("unary_stream", "ServerStream")(str(count).encode(), timeout=10))
    assert responses == [b"%d" % n + b"x" * 10_000 for n in range(count)], len(responses)
"#;
    grpc("", program);
}

#[test]
fn bidirectional_streaming_is_a_conversation() {
    let program = r#"
sent = queue.Queue()
responses = call("stream_stream", "Chat")(iter(sent.get, None), timeout=10)
for n in range(100):
    sent.put(b"%d" % n)
    # The answer comes before the next question is asked.
    assert next(responses) == b"re: %d" % n
sent.put(None)
assert list(responses) == []
assert responses.code() == grpc.StatusCode.OK
"#;
    grpc("", program);
}

#[test]
fn many_calls_at_once() {
    let program = r#"
calls = [unary.future(b"%d" % n, timeout=10) for n in range(300)]
assert [each.result() for each in calls] == [b"echo %d" % n for n in range(300)]
"#;
    grpc("", program);
}

#[test]
fn a_call_that_is_cancelled_or_late_ends() {
    let program = r#"
slow = call("unary_unary", "Slow")
try:
    slow(b"", timeout=0.3)
    sys.exit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
future = slow.future(b"", timeout=20)
future.cancel()
assert future.cancelled()
assert unary(b"still there", timeout=10) == b"echo still there"
"#;
    grpc("", program);
}

#[test]
fn an_upstream_that_is_not_there_is_unavailable() {
    require("python3", &["-c", "import grpc"], "python3 -m pip install grpcio");
    let url = format!("h2c://127.0.0.1:{}", free_port());
    let ravelin = Ravelin::start(&site_with("h2c = true", &[&url], ""));
    let mut command = Command::new("python3");
    let target = format!("TARGET = \"{}\"\n", ravelin.addr());
    let program = r#"
try:
    unary(b"", timeout=10)
    sys.exit("no error")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
"#;
    command.args(["-c", &[&target, CLIENT, program].concat()]);
    let output = run_to_end(command);
    assert!(output.status.success(), "{}", printed(&output));
}
