"""`rft serve-grader`: serve graders over HTTP to other trainers and services."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config import ServeConfig
from rft.config.commands import load_service
from rft.errors import UsageError
from rft.grading.outbound.guard import is_loopback


def serve_grader(words: list[str]) -> int:
    """Serve until an interruption."""
    return configured(
        "serve_grader",
        words,
        lambda overrides, _: load_service(overrides),
        lambda config: run_service(config, console=Console()),
    )


def run_service(config: ServeConfig, *, console: Console) -> int:
    """Serve with a checked configuration until an interruption or SIGTERM.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: The server cannot listen on the address.
    """
    from rft.grading import load_grader
    from rft.grading.outbound.server import make_server
    from rft.grading.outbound.service import ServiceLimits, create_app

    limits = ServiceLimits(max_completions=config.max_completions, grading_s=config.request_timeout_s)
    app = create_app(
        [load_grader(name, spec) for name, spec in config.graders.items()],
        limits=limits,
        token=os.environ[config.token_env].strip() if config.token_env else None,
        hosts=[*config.allowed_hosts, config.host] if config.allowed_hosts or is_loopback(config.host) else None,
    )
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((config.host, config.port))
            listening.listen()
        except OSError as error:
            problem = f"host={config.host} port={config.port}: {error.strerror or error}; choose another, or port=0"
            raise UsageError("address", [problem]) from error
        host, port = listening.getsockname()[:2]
        where = f"http://[{host}]:{port}" if family is socket.AF_INET6 else f"http://{host}:{port}"
        console.print(Text(f"{', '.join(config.graders)} at {where}/grade (Ctrl-C ends it)"), soft_wrap=True)
        server = make_server(app, request_s=limits.request_s)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after its shutdown
            server.run(sockets=[listening])
    return 0
