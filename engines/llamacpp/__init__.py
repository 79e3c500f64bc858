"""The engine `llamacpp`: llama.cpp's own server in this process, on the same weights as the other local engines."""
