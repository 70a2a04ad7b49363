"""What Envoy is told, put into messages; what it says of headers, read out of them."""

from collections.abc import Iterable, Mapping

from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2

JUDGED_HEADER = "x-chat-gateway"
"""Set on every request that may go on; Envoy's routes to a model's server ask for it."""

JUDGED = "judged"
PASSED = "passed"

_OVERWRITE = (
    pb2.HeaderValueOption.HeaderAppendAction.HEADER_APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD
)


def headers_of(headers: pb2.HttpHeaders) -> dict[str, str]:
    """Headers by name, in lower case; those that came more than once are joined by commas."""
    found: dict[str, str] = {}
    for header in headers.headers.headers:
        value = header.raw_value.decode("latin-1")
        name = header.key.lower()
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def go_on() -> pb2.ProcessingResponse:
    """Bring the body; nothing has been decided about a request yet."""
    return pb2.ProcessingResponse(request_headers=pb2.HeadersResponse())


def pass_request() -> pb2.ProcessingResponse:
    """Let a request go on that is not judged."""
    change = _change({JUDGED_HEADER: PASSED})
    common = pb2.CommonResponse(header_mutation=change, clear_route_cache=True)
    return pb2.ProcessingResponse(request_headers=pb2.HeadersResponse(response=common))


def pass_step(step: pb2.ProcessingRequest) -> pb2.ProcessingResponse:
    """Let a step of an answer go on that is not judged."""
    match step.WhichOneof("request"):
        case "response_headers":
            return pb2.ProcessingResponse(response_headers=pb2.HeadersResponse())
        case "response_body":
            return answer_piece(step.response_body.body, last=step.response_body.end_of_stream)
        case _:
            return pb2.ProcessingResponse(response_trailers=pb2.TrailersResponse())


def forward(
    body: bytes, headers: Mapping[str, str], removed: Iterable[str]
) -> pb2.ProcessingResponse:
    """Let a judged request go on, with this body and these headers, and without those removed."""
    change = _change(
        {
            **headers,
            JUDGED_HEADER: JUDGED,
            "accept-encoding": "identity",
            "content-type": "application/json",  # the caller's may name a charset to misread it by
            "content-length": str(len(body)),
        },
        removed,
    )
    common = pb2.CommonResponse(
        header_mutation=change,
        body_mutation=pb2.BodyMutation(body=body),
        clear_route_cache=True,
    )
    return pb2.ProcessingResponse(request_body=pb2.BodyResponse(response=common))


def answer_head(
    status: int, headers: Mapping[str, str], removed: Iterable[str]
) -> pb2.ProcessingResponse:
    """Begin the answer with this status and these headers, and without those of the server."""
    change = _change({":status": str(status), **headers}, removed)
    common = pb2.CommonResponse(header_mutation=change)
    return pb2.ProcessingResponse(response_headers=pb2.HeadersResponse(response=common))


def answer_piece(body: bytes, *, last: bool) -> pb2.ProcessingResponse:
    """The next piece of the answer."""
    piece = pb2.StreamedBodyResponse(body=body, end_of_stream=last)
    common = pb2.CommonResponse(body_mutation=pb2.BodyMutation(streamed_response=piece))
    return pb2.ProcessingResponse(response_body=pb2.BodyResponse(response=common))


def whole_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, details: str
) -> pb2.ProcessingResponse:
    """The whole answer; the server's, if there is one, is dropped."""
    return pb2.ProcessingResponse(
        immediate_response=pb2.ImmediateResponse(
            status=pb2.HttpStatus(code=status),
            headers=_change(headers),
            body=body,
            details=details,
        )
    )


def ends_answer(order: pb2.ProcessingResponse) -> bool:
    """Whether nothing more can come of an answer after this."""
    common = order.response_body.response
    return order.HasField("immediate_response") or (
        common.body_mutation.streamed_response.end_of_stream
    )


def _change(headers: Mapping[str, str], removed: Iterable[str] = ()) -> pb2.HeaderMutation:
    return pb2.HeaderMutation(
        set_headers=[
            pb2.HeaderValueOption(
                header=pb2.HeaderValue(key=name, raw_value=value.encode("latin-1")),
                append_action=_OVERWRITE,
            )
            for name, value in headers.items()
        ],
        remove_headers=list(removed),
    )
