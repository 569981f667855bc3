"""A system node over TCP: TLS, tokens, what they reach, and what those get who have none."""
import json
import os
import pathlib
import pwd
import re
import socket
import ssl
import struct
import subprocess

import pytest

from nodes import USER, Node, command_line, ensure_user, free_port, wait_for

OTHER = "loamtest2"
STEP = "name: far\ntrain:\n  run: {run}\n  resources: {{cpus: 0.1, memory: 64MiB}}\n"


def loam(node, user, *arguments, cwd=None, check=True):
    if user:
        return node.run_as(user, *arguments, cwd=cwd, check=check)
    return node.run(*arguments, cwd=cwd, check=check)


def make_certificate(folder, name="tls"):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2", "-keyout",
                    folder / f"{name}.key", "-out", folder / f"{name}.crt"], check=True, capture_output=True)
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def far(prefix):
    """A node that listens with TLS; `far.token(user, …)` makes a token, `far.ask(token, …)` uses one."""
    ensure_user()
    try:
        pwd.getpwnam(OTHER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", OTHER], check=True)
    node = Node(prefix, None)
    node.port = free_port()
    make_certificate(node.folder)
    node.configure(f"listen: {{address: 0.0.0.0:{node.port}, certificate: {node.folder}/tls.crt, "
                   f"key: {node.folder}/tls.key}}\n")
    node.run("node", "start")
    node.trust = ssl.create_default_context(cafile=node.folder / "tls.crt")
    yield node
    node.close()


def token(node, user, *options):
    return loam(node, user, "token", "create", *options).stdout.strip()


def connect(node, source="127.0.0.1", tls=True):
    """From an address of its own where a test fails a lot, or holds many: both are counted by address."""
    plain = socket.create_connection(("127.0.0.1", node.port), timeout=30, source_address=(source, 0))
    return node.trust.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain


def read_all(connection):
    """Until the node ends the connection; a reset is an end, too."""
    text = b""
    try:
        while piece := connection.recv(65536):
            text += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return text


def raw(node, text, **options):
    with connect(node, **options) as connection:
        connection.sendall(text)
        return read_all(connection)


def ask(node, token_text, method, target, body=None, source="127.0.0.1"):
    """(status, document or text) of one request."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: loam\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
    if token_text is not None:
        head += f"Authorization: Bearer {token_text}\r\n"
    answer = raw(node, head.encode() + b"\r\n" + content, source=source)
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return status, json.loads(rest) if b"application/json" in head and rest else rest


def gates(node):
    return [pid for pid in node.processes() if b"__gate" in command_line(pid)]


def test_a_token_is_its_user(far):
    mine = token(far, USER, "--name", "mine")
    assert re.fullmatch(r"loam_\d+_[0-9a-f]{64}", mine)
    folder = far.project({"loam.yaml": STEP.format(run="id -un")})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder)], check=True)
    status, answer = ask(far, mine, "POST", "/v1/runs",
                         {"verb": "train", "project": str(folder), "text": (folder / "loam.yaml").read_text()})
    assert status == 201, answer
    run = answer["run"]
    wait_for(lambda: ask(far, mine, "GET", f"/v1/runs/{run}")[1]["state"] == "succeeded", what="the run's end")
    assert b"event: run" in ask(far, mine, "GET", f"/v1/runs/{run}/events")[1]
    assert USER.encode() in ask(far, mine, "GET", f"/v1/logs/{run}")[1]
    # Another user's token sees the queue and nothing of this.
    theirs = token(far, OTHER)
    assert ask(far, theirs, "GET", "/v1/jobs")[0] == 200
    for method, target, body in (("GET", f"/v1/runs/{run}", None), ("GET", f"/v1/logs/{run}", None),
                                 ("POST", "/v1/cancel", {"target": str(run)})):
        assert ask(far, theirs, method, target, body)[0] == 404, target


def test_a_scope_narrows(far):
    read, submit, admin = (token(far, None, "--scope", scope) for scope in ("read", "submit", "admin"))
    assert ask(far, read, "GET", "/v1/node")[0] == 200
    assert ask(far, read, "POST", "/v1/cancel", {"target": "4711"})[0] == 403
    assert ask(far, read, "PUT", "/v1/secrets/A", {"value": "x"})[0] == 403
    assert ask(far, submit, "POST", "/v1/cancel", {"target": "4711"})[0] == 404
    for one in (read, submit):
        assert ask(far, one, "POST", "/v1/node/reload")[0] == 403
    # Root's own, but not root's rights over others.
    folder = far.project({"loam.yaml": STEP.format(run="echo")})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder)], check=True)
    run = json.loads(loam(far, USER, "train", "--detach", "--json", cwd=folder).stdout)["run"]
    assert ask(far, submit, "GET", f"/v1/runs/{run}")[0] == 404
    assert ask(far, admin, "GET", f"/v1/runs/{run}")[0] == 200
    # A user's widest token is the user, no more.
    assert ask(far, token(far, USER, "--scope", "admin"), "POST", "/v1/node/stop")[0] == 403


def test_a_scope_is_looked_at_before_the_body(far):
    """Of the 16 MiB that it may have nothing is sent, and nothing is waited for."""
    text = (f"PUT /v1/secrets/A HTTP/1.1\r\nHost: loam\r\nAuthorization: Bearer {token(far, None, '--scope', 'read')}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {16 << 20}\r\n\r\n")
    answer = raw(far, text.encode())
    assert answer.startswith(b"HTTP/1.1 403 ") and b"this needs submit" in answer, answer


def test_tokens_make_no_tokens(far):
    admin = token(far, None, "--scope", "admin")
    for method, target in (("POST", "/v1/tokens"), ("GET", "/v1/tokens"), ("DELETE", "/v1/tokens/1")):
        status, answer = ask(far, admin, method, target, {} if method == "POST" else None)
        assert status == 403 and "only over the node's Unix socket" in answer["error"]["text"], (method, answer)


def test_revoked_expired_and_foreign_tokens(far):
    gone = token(far, USER, "--name", "gone")
    assert ask(far, gone, "GET", "/v1/node")[0] == 200
    refused = loam(far, OTHER, "token", "revoke", "gone", check=False)
    assert refused.returncode != 0 and "you have no token 'gone'" in refused.stderr
    streaming = connect(far)
    streaming.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: loam\r\nAuthorization: Bearer " + gone.encode() + b"\r\n\r\n")
    assert streaming.recv(12) == b"HTTP/1.1 200"
    loam(far, USER, "token", "revoke", "gone")
    read_all(streaming)  # what was open with it ends
    assert ask(far, gone, "GET", "/v1/node", source="127.0.0.2")[0] == 401
    short = token(far, USER, "--expires", "1s")
    status = wait_for(lambda: (lambda answer: answer if answer[0] == 401 else None)(ask(far, short, "GET", "/v1/node")),
                      what="its expiry")
    assert "expired at" in status[1]["error"]["text"]
    # The number of one with the secret of another.
    one, two = token(far, USER), token(far, OTHER)
    mixed = "_".join([*one.split("_")[:2], two.split("_")[2]])
    assert ask(far, mixed, "GET", "/v1/node", source="127.0.0.2")[0] == 401


def test_a_token_ends_with_its_user(far):
    """His number is another's: what he made acts as nobody, whoever has the number now."""
    subprocess.run(["useradd", "--no-create-home", "loamtest_gone"], check=True)
    try:
        old = token(far, "loamtest_gone")
        subprocess.run(["usermod", "--login", "loamtest_next", "loamtest_gone"], check=True)
        status, answer = ask(far, old, "GET", "/v1/node", source="127.0.0.2")
        assert status == 401 and "'loamtest_gone' is no longer one of this machine" in answer["error"]["text"], answer
        subprocess.run(["usermod", "--login", "loamtest_gone", "loamtest_next"], check=True)
        assert ask(far, old, "GET", "/v1/node")[0] == 200
    finally:
        subprocess.run("userdel loamtest_gone || userdel loamtest_next", shell=True, check=True, capture_output=True)


def test_only_the_hash_is_kept(far):
    made = token(far, USER, "--name", "kept")
    secret = made.split("_")[2]
    listed = json.loads(loam(far, USER, "token", "ls", "--json").stdout)["tokens"]
    assert "kept" in [one["name"] for one in listed]
    assert secret not in json.dumps(listed) and secret not in far.log()
    for path in far.state.glob("node.db*"):
        assert secret.encode() not in path.read_bytes(), path
    names = [one["name"] for one in json.loads(loam(far, OTHER, "token", "ls", "--json").stdout)["tokens"]]
    assert "kept" not in names
    assert loam(far, USER, "token", "create", "--name", "kept", check=False).returncode != 0


@pytest.mark.parametrize("header", [
    "", "Authorization:\r\n", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", "Authorization: Basic cm9vdDo=\r\n",
    "Authorization: Bearer loam_1_\r\n", "Authorization: Bearer loam_99999999999999999999_00\r\n",
    "Authorization: Bearer loam_-1_" + "0" * 64 + "\r\n", "Authorization: Bearer " + "x" * 30000 + "\r\n",
    "Authorization: Bearer loam_1' OR 1=1 --_00\r\n", "Authorization: Bearer \xff\xfe\r\n", "X-Authorization: Bearer GOOD\r\n"])
def test_no_token_no_answer(far, header):
    good = token(far, USER)
    text = f"POST /v1/cancel HTTP/1.1\r\nHost: loam\r\n{header.replace('GOOD', good)}Content-Length: 3\r\n\r\nnot"
    answer = raw(far, text.encode("latin-1"), source="127.0.0.3")
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 429 ", b"HTTP/1.1 400 ")), answer
    assert b"JSON" not in answer, "the body was looked at before the token"


def smuggled(good):
    ok = f"Authorization: Bearer {good}\r\n"
    inner = f"GET /v1/node HTTP/1.1\r\nHost: loam\r\n{ok}\r\n"
    start = "POST /v1/cancel HTTP/1.1\r\nHost: loam\r\n" + ok
    return {
        "length and chunks": start + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "chunks and length": start + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": start + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + inner,
        "a list of lengths": start + "Content-Length: 0, 44\r\n\r\n" + inner,
        "a signed length": start + "Content-Length: +0\r\n\r\n" + inner,
        "unknown coding": start + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
        "a folded field": start + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n\r\n" + inner,
        "a space before the colon": start + "Content-Length : 44\r\n\r\n" + inner,
        "two hosts": "GET /v1/node HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + ok + "\r\n",
        "no host": "GET /v1/node HTTP/1.1\r\n" + ok + "\r\n",
        "two tokens": "GET /v1/node HTTP/1.1\r\nHost: a\r\n" + ok + "Authorization: Bearer loam_1_00\r\n\r\n",
        "a chunk of a wrong size": start + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + inner,
        "a bare line feed": "GET /v1/node HTTP/1.1\nHost: a\n" + ok.replace("\r", "") + "\n",
        "an older version": "GET /v1/node HTTP/1.0\r\nHost: a\r\n" + ok + "\r\n",
    }


@pytest.mark.parametrize("attempt", list(smuggled("")))
def test_nothing_is_smuggled(far, attempt):
    """What two readers could take for different requests is none."""
    answer = raw(far, smuggled(token(far, USER))[attempt].encode())
    assert b" 200 " not in answer.split(b"\r\n")[0], answer
    assert b"started_ms" not in answer, "the second request was answered"


def test_ten_thousand_wrong_tokens(far):
    """They are refused, from a point on without a look; one log line tells; others, and who has a right one, go on."""
    good = token(far, USER)
    before = far.log().count("wrong token")
    codes = set()
    request = b"GET /v1/node HTTP/1.1\r\nHost: loam\r\nAuthorization: Bearer loam_1_%064d\r\n\r\n"
    for number in range(200):
        codes.add(raw(far, request % number, source="127.0.0.4").split()[1])
    assert codes == {b"401", b"429"}
    done = 200
    with_reset = 0
    while done < 10_000:  # as fast as it goes, many in one connection: none but the first is read
        answer = raw(far, b"".join(request % number for number in range(done, done + 200)), source="127.0.0.4")
        with_reset += not answer
        assert answer.count(b"HTTP/1.1") <= 1 and b" 200 " not in answer
        done += 200
    assert ask(far, good, "GET", "/v1/node", source="127.0.0.4")[0] == 200
    assert ask(far, good, "GET", "/v1/node", source="127.0.0.5")[0] == 200
    assert far.log().count("wrong token") - before <= 4
    assert far.json("node", "status")["pid"]


def test_who_stalls_holds_nobody_up(far):
    """Clients that say nothing, half a handshake, half a head: they are ended, and others are served meanwhile."""
    good = token(far, USER)
    silent = [connect(far, tls=False, source="127.0.0.6") for _ in range(40)]
    half = connect(far, tls=False, source="127.0.0.7")
    half.sendall(bytes.fromhex("16030100c8010000c40303"))
    slow = connect(far, source="127.0.0.8")
    slow.sendall(b"GET /v1/node HTTP/1.1\r\nHost: lo")
    garbage = connect(far, tls=False, source="127.0.0.9")
    garbage.sendall(os.urandom(4096))
    assert ask(far, good, "GET", "/v1/node")[0] == 200
    # Beyond what one address may have they end at once, the others after the handshake's and the head's time.
    for connection in [half, slow, garbage, *silent]:
        connection.settimeout(60)
        read_all(connection)
        connection.close()
    assert ask(far, good, "GET", "/v1/node")[0] == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_protocols_and_plain_http_are_refused(far):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)), connect(far, tls=False) as plain:
            old.wrap_socket(plain)
    assert b"200" not in raw(far, b"GET /v1/node HTTP/1.1\r\nHost: a\r\n\r\n", tls=False)


def test_the_gate_owns_nothing(far):
    """The process that reads the network is not root, can become nothing else, and holds no file of the node's."""
    (gate,) = gates(far)
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{gate}/status").read_text().splitlines()
                  if ":\t" in line)
    uids = set(status["Uid"].split())
    assert len(uids) == 1 and uids.isdisjoint({"0"}) and int(uids.pop()) > 65535
    assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
    held = [os.readlink(f"/proc/{gate}/fd/{name}") for name in os.listdir(f"/proc/{gate}/fd")]
    assert not [path for path in held if str(far.folder) in path], held


def test_a_gate_that_dies_comes_again(far):
    good = token(far, USER)
    (before,) = gates(far)
    os.kill(before, 9)
    wait_for(lambda: gates(far) not in ([], [before]), what="another gate")
    assert ask(far, good, "GET", "/v1/node")[0] == 200


def test_reload_takes_a_new_certificate_and_leaves_what_is_open(far):
    good = token(far, USER)
    opened = connect(far)
    make_certificate(far.folder)
    far.run("node", "reload")
    far.trust = ssl.create_default_context(cafile=far.folder / "tls.crt")
    assert ask(far, good, "GET", "/v1/node")[0] == 200
    opened.sendall(f"GET /v1/node HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {good}\r\n\r\n".encode())
    assert read_all(opened).startswith(b"HTTP/1.1 200")
    wait_for(lambda: len(gates(far)) == 1, what="the old gate's end")
    (far.folder / "tls.key").chmod(0o644)
    refused = far.run("node", "reload", check=False)
    assert refused.returncode != 0 and "others than its owner can read the key" in refused.stderr
    assert ask(far, good, "GET", "/v1/node")[0] == 200
    (far.folder / "tls.key").chmod(0o600)


def test_tokens_and_gate_outlive_a_killed_node(far):
    good = token(far, USER)
    far.kill_all()
    wait_for(lambda: not gates(far), what="the gate's end with its node")
    far.run("node", "start")
    assert ask(far, good, "GET", "/v1/node")[0] == 200


def command_run(node, token_text, *argv):
    folder = node.project({"empty": ""})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(folder)], check=True)
    status, answer = ask(node, token_text, "POST", "/v1/runs", {
        "verb": "run", "project": str(folder), "text": None,
        "command": {"argv": list(argv), "standard_input": True, "attach": True}})
    assert status == 201, answer
    return answer["run"]


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(1)
        assert piece, head
        head += piece
    return head


def attach(node, token_text, run, **options):
    connection = connect(node, **options)
    connection.sendall(f"POST /v1/attach/{run} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                       f"Upgrade: loam-attach\r\nContent-Length: 0\r\nAuthorization: Bearer {token_text}\r\n\r\n".encode())
    head = read_head(connection)
    assert head.startswith(b"HTTP/1.1 101"), head
    return connection


def test_a_terminal_over_the_network(far):
    """The stream behind a 101 is the job's, as over the Unix socket."""
    good = token(far, USER)
    run = command_run(far, good, "sh", "-c", "read word; echo got $word")
    with attach(far, good, run) as connection:
        connection.sendall(struct.pack("<BI", 1, 6) + b"hello\n")  # api/attach.h: input
        assert b"got hello" in read_all(connection)


def test_what_is_open_ends_with_its_token(far):
    """Revoked or expired: events, a log that is followed and a terminal end; the job goes on."""
    good = token(far, USER)
    run = command_run(far, good, "sleep", "600")
    for ends in ("revoked", "expired"):
        late = token(far, USER, "--name", ends, *(["--expires", "5s"] if ends == "expired" else []))
        opened = [attach(far, late, run)]
        for target in (f"/v1/runs/{run}/events", f"/v1/logs/{run}?follow=1"):
            opened.append(connect(far))
            opened[-1].sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {late}\r\n\r\n".encode())
            assert read_head(opened[-1]).startswith(b"HTTP/1.1 200")
        if ends == "revoked":
            loam(far, USER, "token", "revoke", ends)
        for connection in opened:
            read_all(connection)
            connection.close()
        assert ask(far, good, "GET", f"/v1/runs/{run}")[1]["jobs"][0]["state"] == "running"
    assert ask(far, good, "POST", "/v1/cancel", {"target": str(run)})[0] == 200


def sockets_of(pid):
    return sum(os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:") for name in os.listdir(f"/proc/{pid}/fd"))


def all_acknowledged(port):
    """Of what was sent from there: nothing will be sent again, which would find that nobody is there."""
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(line[4].startswith("00000000:") for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01")


def vanish(connection):
    """Without a word to the other side: its kernel is not told (tcp(7), TCP_REPAIR)."""
    with socket.socket(fileno=os.dup(connection.fileno())) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
        connection.close()


def test_who_vanishes_without_a_word_frees_its_place(far):
    good = token(far, USER)
    run = command_run(far, good, "sleep", "600")
    wait_for(lambda: ask(far, good, "GET", f"/v1/runs/{run}")[1]["jobs"][0]["state"] == "running", what="the job")
    (gate,) = gates(far)
    before = wait_for(lambda: (sockets_of(gate) <= 3 and sockets_of(gate)), what="an idle gate")
    opened = [attach(far, good, run)]
    for target in (f"/v1/runs/{run}/events", f"/v1/logs/{run}?follow=1"):
        opened.append(connect(far))
        opened[-1].sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {good}\r\n\r\n".encode())
        assert read_head(opened[-1]).startswith(b"HTTP/1.1 200")
    assert sockets_of(gate) == before + 9
    wait_for(lambda: all_acknowledged(far.port), what="the last acknowledgement")
    for connection in opened:
        vanish(connection)
    wait_for(lambda: sockets_of(gate) == before, seconds=180, what="the places of those who vanished")
    assert ask(far, good, "POST", "/v1/cancel", {"target": str(run)})[0] == 200


def test_root_submits_by_tokens_that_may_all(far):
    """A job of root reads and mounts what root may: with a token of a lesser scope that would be all of the machine."""
    body = {"verb": "run", "project": str(far.project({"a": ""})), "text": None, "command": {"argv": ["true"]}}
    status, said = ask(far, token(far, None, "--scope", "submit"), "POST", "/v1/runs", body)
    assert status == 403 and "needs the scope admin to submit" in said["error"]["text"], said
    status, said = ask(far, token(far, None, "--scope", "admin"), "POST", "/v1/runs", body)
    assert status == 201, said


def test_only_a_shared_node_listens(prefix):
    node = Node(prefix, USER)
    try:
        node.configure(f"listen: {{address: 127.0.0.1:{free_port()}}}\n")
        refused = node.run("node", "start", check=False)
        assert refused.returncode != 0 and "a user's own node serves nobody else" in refused.stderr
    finally:
        node.close()


def test_loopback_may_do_without_tls(prefix):
    ensure_user()
    node = Node(prefix, None)
    try:
        node.port = free_port()
        node.configure(f"listen: {{address: 127.0.0.1:{node.port}}}\n")
        node.run("node", "start")
        good = token(node, USER)
        done = subprocess.run(["curl", "-sS", "-H", f"Authorization: Bearer {good}", f"http://127.0.0.1:{node.port}/v1/node"],
                              capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["version"]
        (node.folder / "node.yaml").write_text("{}\n")
        node.run("node", "reload")
        wait_for(lambda: not gates(node), what="the gate's end")
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", node.port), timeout=5)
    finally:
        node.close()
