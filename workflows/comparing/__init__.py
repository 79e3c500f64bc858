"""Two outputs of a job compared: rows and fields that changed."""
