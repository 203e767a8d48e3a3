"""Files of models: weights, ONNX."""
