"""One operation of the official Python client through the given kubeconfig; the last line that it prints is the result.

python3 client.py KUBECONFIG OPERATION NAME      NAME is for what it makes; see docs/clients.md
"""

import hashlib
import io
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

import kubernetes
import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream
from kubernetes.stream.ws_client import STDIN_CHANNEL

NAMESPACE = "clients"
POD = "server"
PIECE = 4 << 20


def load(kubeconfig):
    settings = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=settings)
    return settings


def helped(kubeconfig):
    """The client goes to proxy-url, leaves out the login that stands in it, and its streams want a port in it."""
    settings = load(kubeconfig)
    if settings.proxy:
        login = urlsplit(settings.proxy)
        words = f"{unquote(login.username)}:{login.password}"
        settings.proxy = f"http://{login.hostname}:{login.port or 80}"
        # It would set what the kubeconfig says again, before each request.
        settings.refresh_api_key_hook = None
        settings.proxy_headers = urllib3.make_headers(proxy_basic_auth=words)
    return settings


def list_maps(api, _name):
    found = api.list_namespaced_config_map(NAMESPACE, label_selector="for=list")
    return ",".join(item.metadata.name for item in found.items)


def watch_map(api, _name):
    """The state of now comes first: it watches. Ends with the first change after that."""
    events = watch.Watch().stream(api.list_namespaced_config_map, namespace=NAMESPACE, field_selector="metadata.name=watched")
    next(events)
    print("watching", flush=True)
    return f"changed to {next(events)['object'].data['value']}"


def write(api, name):
    made = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data={"value": "1"})
    created = api.create_namespaced_config_map(NAMESPACE, made)
    patched = api.patch_namespaced_config_map(name, NAMESPACE, {"data": {"value": "2"}})
    api.delete_namespaced_config_map(name, NAMESPACE)
    try:
        api.read_namespaced_config_map(name, NAMESPACE)
        end = "still there"
    except ApiException as error:
        end = "gone" if error.status == 404 else str(error)
    return f"created {created.data['value']}, patched {patched.data['value']}, {end}"


def logs(api, _name):
    """Follows until four lines have come."""
    lines = watch.Watch().stream(api.read_namespaced_pod_log, name=POD, namespace=NAMESPACE, tail_lines=1)
    return ",".join(next(lines) for _ in range(4))


def command(api, words, stdin=False, binary=False):
    return stream(api.connect_get_namespaced_pod_exec, POD, NAMESPACE, command=words, stdin=stdin, stdout=True, stderr=True,
                  tty=False, _preload_content=False, binary=binary)


def execute(api, _name):
    run = command(api, ["sh", "-c", 'read line; echo "got $line"; exit 7'], stdin=True)
    run.write_stdin("hello\n")
    run.run_forever(timeout=30)
    return f"{run.read_stdout().strip()}, exit {run.returncode}"


def copy(api, name):
    """Brings a file into the Pod and back, and says what came back. The client has no cp: its streams carry what tar and dd say."""
    run = command(api, ["tar", "xf", "-", "-C", "/tmp"], stdin=True, binary=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/tmp/file", arcname=name)
    for start in range(0, archive.tell(), 1 << 20):
        run.write_stdin(archive.getbuffer()[start:start + (1 << 20)].tobytes())
    run.close_channel(STDIN_CHANNEL)
    run.run_forever(timeout=120)
    assert run.returncode == 0, run.read_stderr()

    size = os.path.getsize("/tmp/file")
    content = b"".join(piece(api, name, start, min(PIECE, size - start)) for start in range(0, size, PIECE))
    command(api, ["rm", f"/tmp/{name}"]).run_forever(timeout=30)
    return hashlib.sha256(content).hexdigest()


def piece(api, name, start, size):
    """In pieces, for the client's time grows with the square of what it has not handed out yet. The command stays until all has come:
    the end of one that has a slow reader takes the rest along, without a gateway too."""
    words = f"dd if=/tmp/{name} bs=1M skip={start >> 20} count={PIECE >> 20} 2>/dev/null; read end"
    run = command(api, ["sh", "-c", words], stdin=True, binary=True)
    content = b""
    while run.is_open() and len(content) < size:
        run.update(timeout=30)
        content += run.read_stdout(timeout=0)
    run.write_stdin(b"\n")
    run.run_forever(timeout=30)
    assert len(content) == size, f"{len(content)} bytes came back instead of {size}"
    return content


def download(api):
    """The client forwards a port per connection of its own, to a socket in this process."""
    forward = portforward(api.connect_get_namespaced_pod_portforward, POD, NAMESPACE, ports="8000")
    connection = forward.socket(8000)
    connection.setblocking(True)
    connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
    content = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    connection.close()
    return hashlib.sha256(content.split(b"\r\n\r\n", 1)[1]).hexdigest()


def forward(settings):
    """Downloads one file eight times at once and says whether all are the same."""
    # Each has a client of its own: opening a stream changes the client that it is called on.
    apis = [client.CoreV1Api(client.ApiClient(settings)) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(download, apis))
    assert len(set(sums)) == 1, f"the downloads differ: {sums}"
    return f"8 of {sums[0]}"


OPERATIONS = {"plain": list_maps, "list": list_maps, "watch": watch_map, "write": write, "logs": logs, "exec": execute, "copy": copy}


def main(kubeconfig, operation, name):
    if operation == "version":
        return kubernetes.__version__
    settings = load(kubeconfig) if operation == "plain" else helped(kubeconfig)
    if operation == "forward":
        return forward(settings)
    return OPERATIONS[operation](client.CoreV1Api(client.ApiClient(settings)), name)


if __name__ == "__main__":
    print(main(*sys.argv[1:]), flush=True)
    # Threads of the client may still wait for an end.
    os._exit(0)
