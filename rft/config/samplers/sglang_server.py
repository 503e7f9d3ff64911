"""An SGLang server that is already running, reached over HTTP.

Written from SGLang's documentation and never tried against a real SGLang; docs/server.md lists the consequences.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.samplers.remote import RemoteSamplerConfig, ServerUrl


class SglangServerSamplerConfig(RemoteSamplerConfig):
    """A running SGLang server, reached over HTTP; written from its documentation, untried against a real SGLang."""

    client_class: ClassVar[str] = "rft.sampling.sglang_client:SglangClient"

    kind: Literal["sglang_server"] = "sglang_server"
    url: ServerUrl = "http://127.0.0.1:30000"
    """Address of the server's native API, which has no /v1."""
