"""Asks the served cascade about one drawn image, such as ``python ask.py is a red shape left of a circle``."""

import json
import sys
import urllib.request

from cascade.datasets.shapes import draw_shapes, shapes_rows


def main(question: str) -> None:
    """Prints the answer, the right answer, the stage and the confidence."""
    images, answers, _ = draw_shapes((question,), 1, seed=0)
    body = json.dumps({"rows": shapes_rows(images, [question]).tolist()}).encode()
    request = urllib.request.Request(
        "http://127.0.0.1:8000/predict", body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        served = json.load(response)
    print(f"{question} {served['label'][0]} (right: {['no', 'yes'][answers[0]]}; {served['stage'][0]})")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "is a red shape left of a circle?")
