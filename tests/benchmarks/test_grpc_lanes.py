"""Lanes over gRPC, against a foreign server of the Open Inference Protocol."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

from cascade.benchmarks.clients.answers import AnswerReader
from cascade.benchmarks.clients.grpc_lanes import GrpcLanes
from cascade.benchmarks.clients.http_lanes import Credentials
from cascade.benchmarks.clients.lane import ANSWERED, INVALID
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.generator.processes import probe
from cascade.benchmarks.workload import Batch, Workload
from cascade.serving.oip.protobuf import SERVICE, new_message, parse_message

ROWS = np.array([[3], [1], [2]], np.uint8)
WORKLOAD = Workload((Batch(ROWS, None),))


@asynccontextmanager
async def foreign_server(infer, seen=None):
    """A server of the model "m", with the input "x" of FP32; yields its address."""

    async def metadata(content, context):
        if parse_message("ModelMetadataRequest", content).name != "m":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        found = new_message("ModelMetadataResponse", name="m")
        found.inputs.add(name="x", datatype="FP32", shape=[-1, 1])
        return found.SerializeToString()

    async def answer(content, context):
        if seen is not None:
            seen.append(dict(context.invocation_metadata()).get("authorization"))
        return (await infer(parse_message("ModelInferRequest", content), context)).SerializeToString()

    calls = {"ModelMetadata": metadata, "ModelInfer": answer}
    handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def asked(infer, model="m", credentials=None, seen=None):
    """What the server's answer to one request becomes."""

    async def main():
        async with foreign_server(infer, seen) as address:
            lanes = GrpcLanes(address, model, WORKLOAD, AnswerReader("oip"), credentials or Credentials())
            ((status, content),) = await probe(lanes, 10.0)
            return status, content

    return asyncio.run(main())


async def values(request, context):
    """The rows themselves, as raw INT64."""
    rows = np.frombuffer(request.raw_input_contents[0], np.float32)
    found = new_message("ModelInferResponse", model_name="m")
    found.outputs.add(name="y", datatype="INT64", shape=[len(rows)])
    found.raw_output_contents.append(rows.astype(np.int64).tobytes())
    return found


async def scores(request, context):
    """Scores as typed contents, of which the second class is the best."""
    found = new_message("ModelInferResponse", model_name="m")
    output = found.outputs.add(name="y", datatype="FP32", shape=[3, 2])
    output.contents.fp32_contents.extend([0.1, 0.9] * 3)
    return found


async def texts(request, context):
    found = new_message("ModelInferResponse", model_name="m")
    found.outputs.add(name="y", datatype="BYTES", shape=[3])
    found.raw_output_contents.append(b"".join(len(t).to_bytes(4, "little") + t for t in (b"a", b"bc", b"")))
    return found


async def too_few(request, context):
    found = await values(request, context)
    found.raw_output_contents[0] = found.raw_output_contents[0][:8]
    return found


async def busy(request, context):
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")


@pytest.mark.parametrize(("infer", "answer"), [(values, [3, 1, 2]), (scores, [1, 1, 1]), (texts, ["a", "bc", ""])])
def test_rows_are_sent_in_the_models_datatype_and_answers_read(infer, answer):
    status, columns = asked(infer)
    assert (status, columns["answer"]) == (ANSWERED, answer)


def test_wrong_answers_and_refusals_are_failed_requests():
    assert asked(too_few)[0] == INVALID
    assert asked(busy) == (1000 + grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "the queue is full")


def test_a_key_is_sent_as_metadata():
    seen = []
    asked(values, credentials=Credentials("secret"), seen=seen)
    assert seen == ["Bearer secret"]


def test_the_time_that_is_left_is_a_parameter():
    async def infer(request, context):
        seen.append(request.parameters["timeout"].int64_param)
        return await values(request, context)

    async def main():
        async with foreign_server(infer) as address:
            (lane,) = await GrpcLanes(address, "m", WORKLOAD, AnswerReader("oip"))(1)
            ended = asyncio.get_running_loop().create_future()
            lane.send(0, lambda status, _: ended.set_result(status), 0.25)
            assert await ended == ANSWERED
            await lane.close()

    seen = []
    asyncio.run(main())
    assert seen == [250_000]


def test_an_unknown_model_and_a_missing_server_are_named():
    with pytest.raises(TargetError, match=r"'other' at .*unknown model"):
        asked(values, model="other")
    lanes = GrpcLanes("127.0.0.1:1", "m", WORKLOAD, AnswerReader("oip"))
    with pytest.raises(TargetError, match="no connection"):
        asyncio.run(probe(lanes, 1.0))
