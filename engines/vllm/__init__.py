"""The engine `vllm`: vLLM's AsyncLLM in this process, for machines with a GPU. vLLM is found at run time."""
