"""Jobs on many machines, by Ray: the driver in `pool`, what runs elsewhere in `worker` and `engine_host`."""
