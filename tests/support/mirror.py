"""A server on this machine that has stand-ins of published files, in place of the network."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import torch

from f2d_core.testing import tiny_msid_state_dict


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


def write_mirror(folder):
    """msid.pt, and under mapping.pt the wrong network."""
    folder.mkdir()
    for name in ("msid.pt", "mapping.pt"):
        torch.save(tiny_msid_state_dict(), folder / name)
    return folder


@contextmanager
def serving(folder):
    """The address below which the files of `folder` lie."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
