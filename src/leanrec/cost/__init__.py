"""What a model costs: counted (parameters, bytes, FLOPs) and measured (latency, throughput, memory)."""
