"""Detection at a gateway: the boxes of the detector, over HTTP, for every kind of image."""

import asyncio
import base64
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest
from local_gateway import local_gateway
from PIL import Image
from serving_process import free_port

sys.path.append(str(Path(__file__).parents[2] / "detection"))

from bright_squares import POLICY, picture, write_config
from test_image_files import BAD, animated

from cascade import Detector
from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.http.openapi import openapi_document
from cascade.serving.oip.grpc_messages import decode_request, encode_response
from cascade.serving.oip.inference import model_metadata
from cascade.serving.oip.protobuf import new_message
from cascade.serving.telemetry.observations import Observations

pytestmark = [
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PNG = {"content-type": "image/png"}
SQUARES = ((30, 20, 12), (70, 40, 18))


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def ask(folder, *requests, serving="", policy=POLICY, shape="[12, 12]"):
    """Responses to (content, headers) at /detect, or (content, headers, path), one after the other; the statistics;
    and the OpenAPI document."""
    path = write_config(folder, shape, f"port: {free_port()}, metrics: false, {serving}")
    config = CascadeConfig.load(path)

    async def main():
        async with local_gateway(config, policy, folder) as gateway:
            stats = gateway.service.telemetry.stats = Observations(("mean", "border"))
            async with httpx.AsyncClient(base_url=config.serving.url, timeout=60) as client:
                found = [
                    await client.post(*(path or ["/detect"]), content=content, headers=PNG | headers)
                    for content, headers, *path in requests
                ]
                stats.fold()
                return found, stats, (await client.get("/openapi.json")).json()

    return asyncio.run(main())


@pytest.mark.parametrize("segments", ["[[mean, border]]", "[[mean], [border]]"])
@pytest.mark.parametrize("rows", [1024, 100])
def test_it_finds_what_the_detector_finds(tmp_path, segments, rows):
    image = picture(SQUARES)
    serving = f"segments: {segments}, max_request_rows: {rows}"
    (response,), stats, document = ask(tmp_path, (encoded(image), {}), serving=serving)
    expected = Detector.load(tmp_path / "config.yaml").detect(image)
    assert response.status_code == 200
    assert response.json() == expected.to_dict()
    assert len(expected) == 2
    assert dict(zip(stats.stages, stats.answered_rows.tolist())) == expected.answered
    assert stats.requests == {("200", ""): 1}
    schema = document["paths"]["/detect"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(response.json(), schema | {"components": document["components"]})


def test_formats_and_overrides(tmp_path):
    image = picture(SQUARES)
    requests = [
        (encoded(image, form, quality=95), {"content-type": f"image/{form.lower()}"}) for form in ("JPEG", "WEBP")
    ]
    requests += [
        (encoded(image), {"content-type": "application/octet-stream", "x-max-stage": "mean"}),
        (encoded(image), {"x-timeout-ms": "0.001"}),
        (encoded(image), {"x-max-stage": "none"}),
        (encoded(image), {"content-type": "image/gif"}),
        (encoded(image[:4, :4]), {}),
    ]
    responses, _, _ = ask(tmp_path, *requests)
    assert [response.status_code for response in responses] == [200, 200, 200, 504, 400, 415, 200]
    assert [len(response.json()["boxes"]) for response in responses[:3]] == [2, 2, 0]
    assert responses[2].json()["degraded"] > 0
    assert responses[2].json()["answered"]["border"] == 0
    assert "send image/jpeg, image/png, image/webp" in responses[5].json()["error"]
    assert responses[6].json()["note"] == "the image has no window of 12 x 12 pixels"


def test_abstained_windows_are_counted_and_are_no_boxes(tmp_path):
    (response,), _, _ = ask(tmp_path, (encoded(picture(SQUARES)), {}), policy=replace(POLICY, abstain_below=0.995))
    assert response.json()["abstained"] > 0
    assert response.json()["boxes"] == []


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("bytes", "bomb", "large bomb")])
def test_a_bad_image_is_a_400_with_its_reason(tmp_path, kind):
    content, reason = BAD[kind]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
    in_json = json.dumps({"inputs": [tensor]}).encode()
    (response, tensors, after), stats, _ = ask(
        tmp_path, (content, {}), (in_json, {}, "/v2/models/squares/infer"), (encoded(picture()), {})
    )
    for refused in (response, tensors):
        assert refused.status_code == 400
        assert reason in refused.json()["error"]
    assert len(after.json()["boxes"]) == 1
    assert stats.requests == {("200", ""): 1}


def test_large_images_are_refused_before_they_are_decoded(tmp_path):
    wide = encoded(np.zeros((2000, 20_000), dtype=np.uint8))
    (body, pixels), _, _ = ask(tmp_path, (bytes(2000), {}), (wide, {}), serving="max_body_bytes: 1000000")
    assert body.status_code == 400
    assert pixels.status_code == 400
    assert "an image may have 25000000 pixels; got 20000 x 2000" in pixels.json()["error"]
    (response,), _, _ = ask(tmp_path, (bytes(2000), {}), serving="max_body_bytes: 1000")
    assert response.status_code == 413


def test_several_images_at_a_time_and_rows_beside_them(tmp_path):
    image = encoded(picture(SQUARES))
    path = write_config(tmp_path, serving=f"port: {free_port()}, metrics: false")
    config = CascadeConfig.load(path)

    async def main():
        async with (
            local_gateway(config, POLICY, tmp_path) as gateway,
            httpx.AsyncClient(base_url=config.serving.url, timeout=60) as client,
        ):
            searches = [client.post("/detect", content=image, headers=PNG) for _ in range(6)]
            rows = client.post("/predict", json={"rows": picture()[None, :12, :12].tolist()})
            *found, answers = await asyncio.gather(*searches, rows)
            # A client that leaves: nothing of its image stays behind.
            leaving = asyncio.create_task(client.post("/detect", content=image, headers=PNG))
            await asyncio.sleep(0.01)
            leaving.cancel()
            await asyncio.sleep(0.1)
            again = await client.post("/detect", content=image, headers=PNG)
            assert gateway.service._detector._free._value == 2
            return [*found, again], answers

    found, answers = asyncio.run(main())
    assert answers.json()["answer"] == [0]
    assert {len(each.json()["boxes"]) for each in found} == {2}


def test_a_cascade_of_other_rows_has_no_such_path(config):
    assert "/detect" not in openapi_document(config)["paths"]


def test_animated_images_are_refused(tmp_path):
    (response,), _, _ = ask(tmp_path, (animated("WEBP"), {"content-type": "image/webp"}))
    assert "animated images are not supported" in response.json()["error"]


def test_an_image_is_an_input_of_the_open_inference_protocol(tmp_path):
    image = encoded(picture(SQUARES))
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    in_json = {"id": "a", "inputs": [tensor | {"data": [base64.b64encode(image).decode()]}]}
    in_raw = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(image) + 4}}],
        "outputs": [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "label"}],
    }
    head = json.dumps(in_raw).encode()
    raw = head + len(image).to_bytes(4, "little") + image
    wrong = [tensor | {"data": ["no base64!"]}, tensor | {"shape": [2], "data": ["", ""]}, tensor | {"data": [""]}]
    path = "/v2/models/squares/infer"
    requests = [
        (image, {}),
        (json.dumps(in_json).encode(), {}, path),
        (raw, {"inference-header-content-length": str(len(head))}, path),
        *((json.dumps({"inputs": [each]}).encode(), {}, path) for each in wrong),
        (json.dumps(in_json | {"outputs": [{"name": "answer"}]}).encode(), {}, path),
    ]
    (plain, listed, packed, *refused), _, document = ask(tmp_path, *requests)
    boxes = [each["box"] for each in plain.json()["boxes"]]
    outputs = {each["name"]: each for each in listed.json()["outputs"]}
    assert outputs["boxes"] == {"name": "boxes", "datatype": "FP64", "shape": [2, 4], "data": boxes}
    assert outputs["confidence"]["data"] == [each["confidence"] for each in plain.json()["boxes"]]
    assert outputs["label"]["data"] == ["square", "square"]
    size = int(packed.headers["inference-header-content-length"])
    assert np.frombuffer(packed.content[size:]).reshape(2, 4).tolist() == boxes
    assert [each["name"] for each in json.loads(packed.content[:size])["outputs"]] == ["boxes", "label"]
    assert [response.status_code for response in refused] == [400] * 4
    for response, reason in zip(
        refused, ["in base64", "the shape [1], one file", "file is empty", "no output 'answer'"]
    ):
        assert reason in response.json()["error"]
    for body, response in ((in_json, listed), (in_raw, refused[0])):
        schema = document["paths"][path]["post"]
        asked = schema["requestBody"]["content"]["application/json"]["schema"]
        answered = schema["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
        for content, wanted in ((body, asked), (response.json(), answered)):
            jsonschema.validate(content, wanted | {"components": document["components"]})


def test_an_image_over_grpc(tmp_path):
    image = encoded(picture(SQUARES))
    config = CascadeConfig.load(write_config(tmp_path))
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    raw = new_message(
        "ModelInferRequest", inputs=[tensor], raw_input_contents=[len(image).to_bytes(4, "little") + image]
    )
    typed = new_message("ModelInferRequest", inputs=[tensor | {"contents": {"bytes_contents": [image]}}])
    for request in (raw, typed):
        assert decode_request(request, config).rows == image
    columns = {"boxes": [[1.0, 2, 3, 4]], "confidence": [0.5], "label": ["square"], "policy_version": "v"}
    response = encode_response(decode_request(raw, config), columns, config)
    assert list(response.outputs[0].shape) == [1, 4]
    assert np.frombuffer(response.raw_output_contents[0]).tolist() == [1, 2, 3, 4]
    for request, reason in (
        (new_message("ModelInferRequest", inputs=[tensor]), "one file, in raw or in typed"),
        (new_message("ModelInferRequest", inputs=[tensor], raw_input_contents=[b"12345"]), "after its length"),
    ):
        with pytest.raises(RowsError, match=reason):
            decode_request(request, config)
    rows_only = config.model_copy(update={"detection": None})
    with pytest.raises(RowsError, match="takes no input 'image'"):
        decode_request(raw, rows_only)
    assert [each["name"] for each in model_metadata(config, "v")["inputs"]] == ["rows", "image"]
    assert [each["name"] for each in model_metadata(rows_only, "v")["inputs"]] == ["rows"]


def test_a_key_is_required_for_images_too(tmp_path):
    (tmp_path / "keys").write_text("a-key-of-32-characters-0123456789\n")
    (tmp_path / "keys").chmod(0o600)
    image = encoded(picture(SQUARES))
    requests = [(image, {}), (image, {"authorization": "Bearer a-key-of-32-characters-0123456789"})]
    (refused, answered), _, _ = ask(tmp_path, *requests, serving="keys_file: keys")
    assert (refused.status_code, answered.status_code) == (401, 200)
