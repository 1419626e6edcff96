"""Answer requests: one engine over any model, run by torch or by ONNX Runtime. Importing this package needs neither."""
