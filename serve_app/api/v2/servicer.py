"""What ``grpc_servicer_functions`` in ``serve_config.yaml`` names; Serve's proxy calls it when it starts."""

from __future__ import annotations

from typing import Any

import grpc

from serve_app.api.v2.messages import METHODS, SERVICE


def add_inference_service(servicer: Any, server: Any) -> None:
    """Make the server answer the protocol's methods.

    Messages go through as bytes: the deployment reads and writes them, so that the proxy neither parses a frame
    nor pickles a parsed one.
    """
    handlers = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
